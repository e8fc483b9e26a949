"""A repository in a bucket, by `cvm` from end to end, and the faults that servers have."""

import json
import os
import subprocess
import sys
import time
import urllib.request

import pytest

from cernvm.core.errors import (
    DeniedError,
    HostError,
    LeaseLostError,
    NotFoundError,
    TransactionOpenError,
)
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.store.opening import open_store
from system.buckets import BUCKET, BucketServer

NAME = "t.cernvm.test"
OBJECT = "data/d6/747d09595c52d420faa9d5df4a599138b639a8C"


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Both up before the first test, which is not to be blamed for their processes."""
    made = {kind: BucketServer(kind, tmp_path_factory.mktemp(kind)) for kind in ("s3rver", "moto")}
    yield made
    for server in made.values():
        server.close()


@pytest.fixture(params=["s3rver", "moto"])
def server(request, servers):
    """s3rver writes whatever the condition; moto heeds conditions."""
    return servers[request.param]


@pytest.fixture
def opened(server, tmp_path, request):
    """The store of this test, opened anew with each call."""
    prefix = request.node.name.replace("[", "-").rstrip("]")

    def again(**more):
        store = open_store(server.location(tmp_path / "s3.toml", prefix, **more))
        store.settle_s = 0.2
        return store

    return again


def test_a_repository_lives_in_a_bucket(cvm, servers, tmp_path):
    server = servers["s3rver"]
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "hello").write_text("hello\n")
    config = server.config(tmp_path / "s3.toml")

    cvm("repo", "create", NAME, "--store", f"s3://{BUCKET}", "--store-config", config)
    cvm("repo", "publish", NAME, tree, "--tag", "v1")
    info = json.loads(cvm("repo", "info", NAME, "--json").stdout)
    url = f"{server.url}/{BUCKET}/{NAME}"

    assert (info["revision"], info["storage"]) == (1, f"s3://{BUCKET}/{NAME}?config={config}")
    assert "v1" in cvm("repo", "tags", NAME).stdout
    copied = cvm("fs", "cat", f"{NAME}:/hello", "--url", url)
    assert copied.stdout == "hello\n"
    cvm("repo", "remove", NAME, "--yes")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{url}/.cvmfspublished")


def test_caches_are_told_how_long_an_object_holds(servers, tmp_path):
    store = open_store(servers["moto"].location(tmp_path / "s3.toml", "headers", acl="public-read"))
    store.put(OBJECT, b"x")
    store.replace(MANIFEST_PATH, b"x")

    def told(path):
        with urllib.request.urlopen(f"{servers['moto'].url}/{BUCKET}/headers/{path}") as answer:
            return answer.headers["Cache-Control"], answer.headers["Content-Type"]

    assert told(OBJECT) == ("max-age=259200, immutable", "application/octet-stream")
    assert told(MANIFEST_PATH) == ("max-age=61", "application/octet-stream")


def test_keys_are_in_no_error_and_no_place(opened):
    store = opened(
        access_key="PUBLICKEYID", secret_key="VERYSECRET", endpoint="http://127.0.0.1:1", attempts=1
    )
    with pytest.raises(HostError) as caught:
        store.get(OBJECT)

    shown = f"{caught.value} {store.location} {store.settings!r} {vars(store)!r}"
    assert "VERYSECRET" not in shown
    assert "PUBLICKEYID" not in shown


def test_a_file_with_keys_that_others_can_read_is_refused(servers, tmp_path):
    location = servers["moto"].location(tmp_path / "s3.toml", "x")
    os.chmod(tmp_path / "s3.toml", 0o640)
    with pytest.raises(DeniedError, match="others can read it"):
        open_store(location)


def test_a_bucket_that_is_missing_is_named(servers, tmp_path):
    config = servers["s3rver"].config(tmp_path / "s3.toml")
    store = open_store(f"s3://nobodys-bucket/x?config={config}")
    with pytest.raises(NotFoundError, match="bucket.*nobodys-bucket"):
        store.put(OBJECT, b"x")


def test_more_than_a_page_is_listed_and_deleted(opened, monkeypatch):
    monkeypatch.setattr("cernvm.fs.store.s3.store.DELETED_AT_ONCE", 10)
    store = opened(verify="none")
    names = {f"data/{number % 256:02x}/{number:038}" for number in range(45)}
    for name in names:
        store.put(name, b"x")

    assert set(store.paths()) == names
    assert set(store.paths("data/2")) == {name for name in names if name.startswith("data/2")}
    store.delete(*names)
    assert list(store.paths()) == []


def test_full_verification_reads_back(opened):
    store = opened(verify="full")
    store.put(OBJECT, b"content")

    assert store.get(OBJECT) == b"content"


def test_a_store_that_forgets_what_it_took_is_found_out(opened, monkeypatch):
    store = opened(attempts=2)
    store.has(OBJECT)
    client = store._client[1]
    monkeypatch.setattr(
        client, "put_object", lambda **_: {"ETag": '"9a0364b9e99bb480dd25e1f0284c8555"'}
    )

    with pytest.raises(HostError, match="it took data/d6/.*, and does not have it"):
        store.put(OBJECT, b"content")


def test_a_write_that_was_lost_once_is_made_again(opened, monkeypatch):
    store = opened()
    store.has(OBJECT)
    client = store._client[1]
    put, calls = client.put_object, []

    def forgetful(**arguments):
        calls.append(arguments["Key"])
        return (
            {"ETag": '"9a0364b9e99bb480dd25e1f0284c8555"'} if len(calls) == 1 else put(**arguments)
        )

    monkeypatch.setattr(client, "put_object", forgetful)
    store.put(OBJECT, b"content")

    assert len(calls) == 2
    assert store.get(OBJECT) == b"content"


HOLD = """\
import sys, time
from cernvm.fs.store.opening import open_store
store = open_store(sys.argv[1])
store.settle_s, store.lease_s = 0.2, float(sys.argv[2])
with store.exclusive():
    print("held", flush=True)
    time.sleep(60)
"""


def hold(store, *, lease_s):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.location, str(lease_s)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "held\n"
    return child


def test_a_killed_holder_of_this_machine_lets_go_at_once(opened):
    store = opened()
    child = hold(store, lease_s=60)
    with pytest.raises(TransactionOpenError, match=f"process {child.pid} on "), store.exclusive():
        pass
    child.kill()
    child.communicate()

    with store.exclusive():
        pass


@pytest.mark.parametrize("server", ["s3rver"], indirect=True)
def test_a_dead_holder_of_another_machine_lets_go_when_its_lease_is_over(opened, monkeypatch):
    store = opened()
    child = hold(store, lease_s=1)
    child.kill()
    child.communicate()
    monkeypatch.setattr("cernvm.fs.store.lease._machine", lambda: "another machine")

    with pytest.raises(TransactionOpenError), store.exclusive():
        pass
    with store.exclusive(wait_s=10):
        pass


@pytest.mark.parametrize("server", ["s3rver"], indirect=True)
def test_a_living_holder_keeps_the_store_beyond_its_lease(opened):
    store = opened()
    child = hold(store, lease_s=1)
    try:
        with pytest.raises(TransactionOpenError), store.exclusive(wait_s=1.6):
            pass
    finally:
        child.kill()
        child.communicate()


def test_a_holder_that_was_stopped_too_long_replaces_and_deletes_nothing(opened, monkeypatch):
    sleeper, other = opened(), opened()
    sleeper.lease_s = 1
    with sleeper.exclusive():
        sleeper.replace(MANIFEST_PATH, b"first")
        # the machine is asleep: nothing is renewed, and another publisher takes over
        monkeypatch.setattr("cernvm.fs.store.lease.Lease._renew", lambda _: None)
        time.sleep(2.1)
        with other.exclusive(wait_s=5):
            monkeypatch.undo()
            other.replace(MANIFEST_PATH, b"other")
            with pytest.raises(LeaseLostError):
                sleeper.replace(MANIFEST_PATH, b"late")
            with pytest.raises(LeaseLostError):
                sleeper.delete(MANIFEST_PATH)
            with pytest.raises(LeaseLostError):
                sleeper.delete(MANIFEST_PATH)
            assert other.get(MANIFEST_PATH) == b"other"


def test_a_replaced_manifest_is_not_overwritten_by_who_did_not_see_it(opened):
    """Even where somebody writes without holding the store."""
    store, rude = opened(), opened()
    store.replace(MANIFEST_PATH, b"old")
    with store.exclusive():
        rude.replace(MANIFEST_PATH, b"rude")
        with pytest.raises(LeaseLostError, match="replaced by another publisher"):
            store.replace(MANIFEST_PATH, b"new")

    assert store.get(MANIFEST_PATH) == b"rude"


COUNT = """\
import sys
from cernvm.fs.store.opening import open_store
store = open_store(sys.argv[1])
store.settle_s = 0.3
for _ in range(int(sys.argv[2])):
    with store.exclusive(wait_s=60):
        store.replace(".cvmfspublished", str(int(store.get(".cvmfspublished")) + 1).encode())
"""


def test_two_publishers_never_overwrite_each_other(opened, count):
    store, times = opened(), count(20)
    store.replace(MANIFEST_PATH, b"0")
    command = [sys.executable, "-c", COUNT, store.location, str(times)]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [child.communicate(timeout=100)[1] for child in children]

    assert told == ["", ""]
    assert store.get(MANIFEST_PATH) == str(2 * times).encode()
