"""What people are told of a transaction and of a whitelist."""

import json
from datetime import UTC, datetime, timedelta

from cernvm.core.clock import FakeClock
from cernvm.fs.publish.whitelisting import renew

from .conftest import NAME


def test_an_open_transaction_is_listed(bench, published, cvm, shell):
    assert json.loads(cvm("repo", "info", NAME, "--json").stdout)["transaction"] == ""

    shell("echo one > one")

    shown = json.loads(cvm("repo", "ls", "--json").stdout)[0]
    assert shown["transaction"].startswith("open since 20")


def test_a_whitelist_that_runs_out_soon_is_warned_of_when_it_cannot_be_renewed(
    bench, published, cvm
):
    renew(bench.repository, bench.store, clock=FakeClock(datetime.now(UTC) - timedelta(days=24)))
    bench.repository.keys.master.unlink()

    told = cvm("repo", "copy", NAME, "/v1", "/v3").stderr

    assert "the whitelist of t.cernvm.test expires at" in told
    assert "expires at" in cvm("repo", "info", NAME).stderr
