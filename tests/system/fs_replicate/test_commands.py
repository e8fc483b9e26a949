"""`cvm repo replicate`, `export`, `import` and what shows replicas, as a user types them."""

import json
import os
import signal
import subprocess
import time

import pytest

from cernvm.fs.store.local import LocalStore
from conftest import CVM
from system.replicas import NAME, read_replica_back


def test_a_replica_is_made_updated_listed_and_removed(cvm, home, upstream):
    url = upstream.server.url
    made = json.loads(
        cvm("repo", "replicate", url, "--name", NAME, "--key", upstream.key, "--json").stdout
    )
    assert (made["revision"], made["is_new"]) == (1, True)
    upstream.change(2)
    assert "revision   2" in cvm("repo", "replicate", NAME).stdout
    (row,) = json.loads(cvm("repo", "ls", "--json").stdout)
    assert (row["name"], row["kind"], row["revision"]) == (NAME, "replica", 2)
    store = LocalStore(home.storage / NAME)
    read_replica_back(store, upstream.key)
    refused = cvm("repo", "settings", NAME, check=False)
    assert (refused.returncode, "here is a replica of it" in refused.stderr) == (12, True)
    assert cvm("repo", "create", NAME, "--storage", home.path / "x", check=False).returncode == 13
    cvm("repo", "remove", NAME, "--yes")
    assert not list(store.paths())
    assert json.loads(cvm("repo", "ls", "--json").stdout) == []


def test_a_replica_is_adopted_and_a_replica_no_more(cvm, home, upstream):
    cvm("repo", "replicate", upstream.server.url, "--name", NAME, "--key", upstream.key)
    keys = ("--keys", upstream.key.parent)

    beside = cvm(
        "repo", "adopt", NAME, "--storage", upstream.repository.storage, *keys, check=False
    )
    cvm("repo", "adopt", NAME, "--storage", home.storage / NAME, *keys)

    assert (beside.returncode, "adopt that one" in beside.stderr) == (13, True)
    (row,) = json.loads(cvm("repo", "ls", "--json").stdout)
    assert (row["kind"], row["storage"]) == ("repository", str(home.storage / NAME))


def test_a_key_that_does_not_vouch_is_told_and_leaves_no_replica(
    cvm, upstream, tmp_path, made_keys
):
    refused = cvm("repo", "replicate", upstream.server.url, "--name", NAME, check=False)
    assert "--key FILE" in refused.stderr
    wrong = tmp_path / "wrong.pub"
    subprocess.run(
        ["openssl", "genrsa", "-out", tmp_path / "key", "2048"], check=True, capture_output=True
    )
    subprocess.run(
        ["openssl", "rsa", "-in", tmp_path / "key", "-pubout", "-out", wrong],
        check=True, capture_output=True,
    )  # fmt: skip
    words = (upstream.server.url, "--name", NAME, "--key", wrong)
    refused = cvm("repo", "replicate", *words, check=False)
    assert refused.returncode == 20
    assert "not signed by any" in refused.stderr
    assert json.loads(cvm("repo", "ls", "--json").stdout) == []


def test_a_revision_travels_through_a_pipe(cvm, home, upstream, tmp_path):
    cvm("repo", "replicate", upstream.server.url, "--name", NAME, "--key", upstream.key)
    there = {"CVM_HOME": str(tmp_path / "there")}
    environment = {**os.environ, **there}
    with subprocess.Popen(
        [CVM, "repo", "export", NAME, "-"],
        stdout=subprocess.PIPE,
        env={**os.environ, "CVM_HOME": str(home.path)},
    ) as source:
        taken = subprocess.run(
            [CVM, "repo", "import", "-", "--key", upstream.key, "--json"],
            stdin=source.stdout, env=environment, check=True, capture_output=True,
        )  # fmt: skip
    assert json.loads(taken.stdout)["revision"] == 1
    upstream.change(2)
    cvm("repo", "replicate", NAME)
    told = json.loads(
        cvm("repo", "export", NAME, tmp_path / "step", "--from", "v0", "--json").stdout
    )
    assert told["size_bytes"] == (tmp_path / "step").stat().st_size
    cvm("repo", "import", tmp_path / "step", **there)
    store = LocalStore(tmp_path / "there/srv" / NAME)
    assert read_replica_back(store, upstream.key)[0].revision == 2
    without = cvm("repo", "replicate", NAME, check=False, **there)
    assert "no upstream" in without.stderr


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_replica_is_kept_up_to_date_until_it_is_ended(end, home, upstream):
    key = str(upstream.key)
    words = [
        "repo",
        "replicate",
        upstream.server.url,
        "--name",
        NAME,
        "--key",
        key,
        "--every",
        "1s",
    ]
    environment = {**os.environ, "CVM_HOME": str(home.path)}
    with subprocess.Popen([CVM, *words], stdout=subprocess.PIPE, env=environment) as child:
        assert b"revision   1" in child.stdout.readline()
        upstream.change(2)
        store = LocalStore(home.storage / NAME)
        ends = time.monotonic() + 20
        while b"S2\n" not in store.get(".cvmfspublished"):
            assert time.monotonic() < ends
            time.sleep(0.1)
        child.send_signal(end)
        assert child.wait(10) == 130
