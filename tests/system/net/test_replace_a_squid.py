"""The configuration that docs/how-to/replace-a-squid.md gives, run."""

import re
from pathlib import Path

import pytest

from cernvm.core.clock import Deadline
from cernvm.core.errors import DigestMismatchError
from cernvm.net import NetSettings, fetch, open_fetcher

from .conftest import run_nginx

PAGE = Path(__file__).parents[3] / "docs/how-to/replace-a-squid.md"


@pytest.fixture
def origin(mirror):
    one = mirror()
    one.documents["cvmfs/a.b/data/ab/cdef"] = b"content"
    return one


@pytest.fixture
def cache(origin, tmp_path):
    config = re.search(r"```nginx\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]
    config = config.replace("/var/cache/nginx/cvmfs", str(tmp_path / "cache"))
    config = config.replace("http://stratum1.example.org", origin.url)
    stored, block = config.split("\n\n", 1)
    location = block.partition("listen 3128;")[2].rpartition("}")[0]
    with run_nginx(tmp_path, settings=stored, location=location) as url:
        yield url


def get(url, proxies, accept=bytes):
    fetcher = open_fetcher(NetSettings(url, proxies=proxies), "a.b")
    deadline = Deadline.after(10)
    try:
        return fetch(fetcher, "data/ab/cdef", limit_bytes=100, deadline=deadline, accept=accept)
    finally:
        fetcher.close()


def test_the_cache_serves_clients_as_their_proxy_when_its_server_is_gone(origin, cache):
    assert get(f"{origin.url}/cvmfs/a.b", cache) == b"content"
    origin.close()

    assert get(f"{origin.url}/cvmfs/a.b", cache) == b"content"
    assert len(origin.requests) == 1


def test_the_cache_is_passed_by_when_its_content_is_damaged(origin, cache):
    get(f"{origin.url}/cvmfs/a.b", cache)
    origin.documents["cvmfs/a.b/data/ab/cdef"] = b"mended!"
    seen = []

    def accept(data):
        seen.append(data)
        if data == b"content":
            raise DigestMismatchError(expected="a", got="b", source="x")
        return data

    got = get(f"{origin.url}/cvmfs/a.b", cache, accept)

    assert (got, seen) == (b"mended!", [b"content", b"mended!"])
