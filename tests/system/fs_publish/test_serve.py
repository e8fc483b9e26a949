"""`cvm repo` as a user types it, and the server it starts."""

import http.client
import json
import os
import socket

import pytest

from cernvm.core.home import Home
from cernvm.core.process import read_record
from conftest import runner
from system.published import published


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The data folder of `served`."""
    return Home(tmp_path_factory.mktemp("serve") / "home")


@pytest.fixture(scope="module")
def served(shared, tmp_path_factory):
    """The port of a server that tests only ask."""
    tree = tmp_path_factory.mktemp("tree")
    for number in range(30):
        (tree / f"f{number}").write_bytes(b"%d" % number * 100)
    (tree / "large").write_bytes(os.urandom(1 << 20))
    (tree / "sub").mkdir()
    (tree / "sub/.cvmfscatalog").touch()
    with published(runner(shared), shared, "t.cernvm.test", tree) as url:
        yield int(url.rpartition(":")[2])
    assert read_record(shared.run / "repo.json") is None


def ask(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def test_objects_and_root_documents_are_served(served, shared):
    storage = shared.storage / "t.cernvm.test"
    for path in [p for p in storage.rglob("*") if p.is_file() and "txn" not in p.parts]:
        name = path.relative_to(storage)
        status, headers, body = ask(served, f"/cvmfs/t.cernvm.test/{name}")
        assert (status, body) == (200, path.read_bytes())
        expected = "max-age=259200, immutable" if str(name).startswith("data") else "max-age=61"
        assert headers["Cache-Control"] == expected


def test_head_has_the_size_and_no_body(served):
    status, headers, body = ask(served, "/cvmfs/t.cernvm.test/.cvmfspublished", "HEAD")

    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 300


OTHER_PATHS = [
    "/",
    "/cvmfs/t.cernvm.test/",
    "/cvmfs/other.cernvm.test/.cvmfspublished",
    "/cvmfs/../keys/t.cernvm.test.key",
    "/cvmfs/t.cernvm.test/../../keys/t.cernvm.test.masterkey",
    "/cvmfs/t.cernvm.test/%2e%2e/%2e%2e/keys/t.cernvm.test.masterkey",
    "/cvmfs/t.cernvm.test/data/txn/publisher.lock",
    "/cvmfs/t.cernvm.test/data/00/" + "0" * 38,
    "/cvmfs/t.cernvm.test/data",
    "//etc/passwd",
]


def test_nothing_else_is_served(served):
    assert {path: ask(served, path)[0] for path in OTHER_PATHS} == dict.fromkeys(OTHER_PATHS, 404)


def test_other_methods_are_refused(served):
    assert ask(served, "/cvmfs/t.cernvm.test/.cvmfspublished", "POST")[0] == 501


def test_a_repository_made_later_is_served(served, shared):
    runner(shared)("repo", "create", "later.cernvm.test")

    assert ask(served, "/cvmfs/later.cernvm.test/.cvmfspublished")[0] == 200


def test_many_requests_on_one_connection(served):
    connection = http.client.HTTPConnection("127.0.0.1", served, timeout=10)
    for _ in range(200):
        connection.request("GET", "/cvmfs/t.cernvm.test/.cvmfspublished")
        assert connection.getresponse().read()
    connection.close()


def test_silent_and_senseless_clients_disturb_nobody(served):
    silent = [socket.create_connection(("127.0.0.1", served)) for _ in range(20)]
    silent[0].sendall(b"\x00\xff" * 100 + b"\r\n\r\n")
    silent[1].sendall(b"GET /cvmfs/t.cernvm.test/.cvmfspublished HTTP/1.1\r\nX: ")

    assert ask(served, "/cvmfs/t.cernvm.test/.cvmfspublished")[0] == 200
    for connection in silent:
        connection.close()


def test_a_taken_port_is_named(served, cvm):
    finished = cvm("repo", "serve", "--port", served, check=False)

    assert finished.returncode == 42
    assert f"another program listens on 127.0.0.1:{served}" in finished.stderr


def test_commands_tell_what_they_did(cvm, tree, home):
    made = json.loads(cvm("repo", "create", "a.cernvm.test", "--hash", "shake128", "--json").stdout)
    assert made["root_hash"].endswith("-shake128")
    row = json.loads(
        cvm("repo", "publish", "a.cernvm.test", tree, "--tag", "v1", "--at", "/v1", "--json").stdout
    )
    assert {"revision", "root_hash", "files", "read_bytes", "stored_bytes", "took_s"} <= set(row)
    assert row["revision"] == 1
    assert "root hash" in cvm("repo", "publish", "a.cernvm.test", tree).stdout
    assert json.loads(cvm("repo", "ls", "--json").stdout)[0]["revision"] == 2
    assert json.loads(cvm("repo", "info", "a.cernvm.test", "--json").stdout)["hash"] == "shake128"
    tags = json.loads(cvm("repo", "tags", "a.cernvm.test", "--json").stdout)
    assert {"v1", "trunk"} <= {tag["name"] for tag in tags}
    assert "valid until" in cvm("repo", "resign", "a.cernvm.test").stdout
    cvm("repo", "remove", "a.cernvm.test", "--yes")
    assert json.loads(cvm("repo", "ls", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["repo", "publish", "no.cernvm.test", "/tmp"], 12, "cvm repo create no.cernvm.test"),
        (["repo", "create", "Bad Name"], 11, "is no repository name"),
        (["repo", "create", "../x.y"], 11, "is no repository name"),
    ],
)
def test_errors_are_sentences(cvm, arguments, code, text):
    finished = cvm(*arguments, check=False)

    assert finished.returncode == code
    assert text in finished.stderr
    assert "Traceback" not in finished.stderr
