"""What a server tells of its repositories and replicas."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cernvm.core.clock import FakeClock
from cernvm.core.home import Home
from cernvm.fs.replicate.health import Grade, read_health
from cernvm.fs.replicate.replica import write_replica
from cernvm.fs.replicate.status import KEEP_S, Documents
from cernvm.fs.replicate.updating import update
from system.replicas import NAME
from system.sick import Fault


@pytest.fixture
def site(upstream, tmp_path):
    """A home with one replica that is up to date."""
    home = Home(tmp_path / "site")
    write_replica(home, upstream.replica(tmp_path / "copy"))
    update(upstream.replica(tmp_path / "copy"), clock=FakeClock(datetime.now(UTC)))
    return home


@pytest.fixture
def clock():
    return FakeClock(datetime.now(UTC))


def told(documents, path="/health.json"):
    return json.loads(documents(path).body)


def test_the_list_of_repositories_tells_what_is_published_here_and_what_is_copied(site, upstream):
    assert told(Documents(site), "/cvmfs/info/v1/repositories.json") == {
        "schema": 1,
        "repositories": [],
        "replicas": [{"name": NAME, "url": f"/cvmfs/{NAME}"}],
    }
    mine = told(
        Documents(Home(upstream.repository.index.parent.parent)), "/cvmfs/info/v1/repositories.json"
    )
    assert [one["name"] for one in mine["repositories"]] == [NAME]


def test_the_administrator_says_who_runs_the_server(site):
    documents = Documents(site)
    assert told(documents, "/cvmfs/info/v1/meta.json")["administrator"] == ""
    (site.path / "meta.json").write_text('{"administrator": "Ada", "custom": {"a": 1}}')
    meta = told(documents, "/cvmfs/info/v1/meta.json")
    assert (meta["administrator"], meta["custom"], meta["email"]) == ("Ada", {"a": 1}, "")


def test_a_replica_that_is_up_to_date_is_well(site, clock):
    (row,) = told(Documents(site, clock))
    assert (row["grade"], row["revision"], row["lag"], row["kind"]) == ("ok", 1, 0, "replica")
    assert row["last_snapshot"]


def test_a_replica_that_lags_behind_says_by_how_much(site, upstream, clock):
    upstream.change(2)
    upstream.change(3)
    (row,) = told(Documents(site, clock))
    assert (row["grade"], row["lag"]) == ("warning", 2)


def test_an_upstream_that_does_not_answer_is_a_warning(site, upstream, clock):
    upstream.server.fall_ill(Fault.DEAD)
    (row,) = told(Documents(site, clock))
    assert (row["grade"], row["reasons"]) == ("warning", ["no upstream answers"])


def test_an_answer_is_kept_for_a_few_seconds(site, upstream, clock):
    documents = Documents(site, clock)
    told(documents)
    before = upstream.server.requests
    told(documents)
    documents("/health")
    documents("/metrics")
    assert upstream.server.requests == before
    clock.advance(KEEP_S + 60)
    told(documents)
    assert upstream.server.requests == before + 1


def test_a_failed_replication_is_an_error_until_one_succeeds(site, upstream, clock, tmp_path):
    upstream.change(2)
    upstream.server.fall_ill(Fault.ERROR)
    replica = upstream.replica(tmp_path / "copy")
    clock.advance(60)
    assert update(replica, clock=clock).error is not None
    (one,) = read_health(site, clock.now(), lambda _: None)
    assert one.grade is Grade.ERROR
    assert "HTTP 500" in one.reasons[0]
    upstream.server.heal()
    clock.advance(60)
    assert update(replica, clock=clock).replicated is not None
    (one,) = read_health(site, clock.now(), lambda _: 2)
    assert one.grade is Grade.OK


@pytest.mark.parametrize(("days", "grade"), [(25, Grade.WARNING), (40, Grade.ERROR)])
def test_an_expiring_whitelist_is_told_long_before(site, days, grade):
    (one,) = read_health(site, datetime.now(UTC) + timedelta(days=days), lambda _: 1)
    assert one.grade is grade
    assert any("whitelist" in reason for reason in one.reasons)


def test_a_replica_that_was_never_copied_is_an_error(upstream, tmp_path, clock):
    home = Home(tmp_path / "new")
    write_replica(home, replace(upstream.replica(tmp_path / "nothing")))
    (one,) = read_health(home, clock.now(), lambda _: None)
    assert one.grade is Grade.ERROR


def test_the_page_and_the_metrics_show_the_same(site, clock):
    documents = Documents(site, clock)
    page = documents("/health")
    assert NAME.encode() in page.body
    assert b"<h1>Repositories: ok</h1>" in page.body
    metrics = documents("/metrics").body.decode()
    assert f'cvmfs_server_revision{{repo="{NAME}",kind="replica"}} 1\n' in metrics
    assert metrics.endswith("# EOF\n")
    assert documents("/elsewhere") is None
