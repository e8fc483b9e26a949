"""`cvm repo serve` beside repositories made here: what is passed through, the Geo-API, pages about itself."""

import contextlib
import json
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from cernvm.fs.format.objects import parse_object_path
from cernvm.fs.format.trust import open_manifest
from cernvm.fs.publish.serving import RepositoryServer
from cernvm.fs.replicate.extras import open_extras
from cernvm.fs.replicate.through.record import PassThrough, forget_pass_through, write_pass_through
from system.fs.conftest import original  # noqa: F401
from system.replicas import NAME
from system.sick import Fault


@pytest.fixture
def served(upstream, home, tmp_path):
    """The address of a server that passes the upstream through."""
    one = PassThrough(NAME, tmp_path / "kept", (upstream.server.url,), (upstream.key,))
    write_pass_through(home, one)
    with contextlib.ExitStack() as stack:
        extras = stack.enter_context(open_extras(home, None))
        server = stack.enter_context(
            RepositoryServer("127.0.0.1", 0, dict, opened=extras.opened, beside=extras)
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stack.callback(thread.join, 10)
        stack.callback(server.shutdown)
        yield f"http://127.0.0.1:{server.port}"


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read(), answer.headers


def refusal(url):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(url)
    refused.value.close()
    return refused.value.code


def test_what_is_passed_through_is_served_like_a_repository(served, upstream):
    manifest, headers = get(f"{served}/cvmfs/{NAME}/.cvmfspublished")
    assert headers["Cache-Control"] == "max-age=61"
    assert open_manifest(manifest, name=NAME).revision == upstream.revisions[-1].revision
    for path in list(upstream.store.paths("data/"))[:20]:
        data, headers = get(f"{served}/cvmfs/{NAME}/{path}")
        digest, _ = parse_object_path(path)
        assert digest.algorithm.digest(data) == digest
        assert headers["Cache-Control"] == "max-age=259200, immutable"


def test_who_asks_for_what_is_not_there_is_told_so(served):
    for path in (
        f"{NAME}/data/00/{'0' * 38}",
        f"{NAME}/.cvmfsreflog",
        "other.test/.cvmfspublished",
        "x",
    ):
        assert refusal(f"{served}/cvmfs/{path}") == 404


def test_what_the_upstream_damages_is_an_error_of_the_server(served, upstream):
    path = next(path for path in upstream.store.paths("data/") if not path.endswith("K"))
    upstream.server.fall_ill(Fault.FLIP)

    assert refusal(f"{served}/cvmfs/{NAME}/{path}") in (502, 503)


def test_what_is_removed_is_served_no_more(served, home):
    get(f"{served}/cvmfs/{NAME}/.cvmfspublished")
    forget_pass_through(home, NAME)

    assert refusal(f"{served}/cvmfs/{NAME}/.cvmfspublished") == 404


def test_the_order_of_servers_is_told_by_round_trips(served, upstream):
    host = urlsplit(upstream.server.url).hostname
    url = f"{served}/cvmfs/{NAME}/api/v1.0/geo/me/127.0.0.9,{host}"
    order = b""
    for _ in range(50):
        with contextlib.suppress(urllib.error.HTTPError):
            order, headers = get(url)
            break
        threading.Event().wait(0.1)

    assert order == b"2,1\n"
    assert headers["Cache-Control"] == "max-age=300"
    assert refusal(f"{served}/cvmfs/{NAME}/api/v1.0/geo/me/unknown.invalid") == 400


def test_the_server_tells_of_itself(served):
    assert json.loads(get(f"{served}/cvmfs/info/v1/repositories.json")[0])


def test_the_originals_client_mounts_what_is_passed_through(
    served,
    upstream,
    original,  # noqa: F811
    tmp_path,
):
    point = tmp_path / "mounted"
    point.mkdir()
    original.mount(
        point, url=f"{served}/cvmfs/{NAME}", key=upstream.key, cache=tmp_path / "cache", name=NAME
    )
    try:
        for file in upstream.tree.rglob("*"):
            if file.is_file() and not file.is_symlink():
                assert (point / file.relative_to(upstream.tree)).read_bytes() == file.read_bytes()
    finally:
        original.unmount(point)
