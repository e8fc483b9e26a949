"""Sample repositories, served by nginx on loopback and opened through the real fetcher and cache."""

import pytest

from cernvm.core.clock import Deadline
from cernvm.fs.cache import DiskBreadcrumbs, DiskCache
from cernvm.fs.reader import open_repository
from cernvm.fs.vfs import View
from cernvm.net import Chain, ChainFetcher, HttpExchange
from system.samples import serve_sample

NAMES = ("vectors.cernvm.test", "sample.cernvm.test", "shake.cernvm.test")


@pytest.fixture(scope="session", params=NAMES)
def served(request, tmp_path_factory):
    """A sample behind nginx."""
    one = serve_sample(request.param, tmp_path_factory.mktemp(request.param))
    yield one
    one.stop()


@pytest.fixture
def view(served, tmp_path):
    """The repository as a file system, with an empty cache."""
    exchange = HttpExchange()
    cache = DiskCache(tmp_path / "cache", quota_bytes=1 << 30)
    repository = open_repository(
        served.name,
        fetcher=ChainFetcher(Chain((served.url,)), exchange),
        cache=cache,
        breadcrumbs=DiskBreadcrumbs(tmp_path / "cache"),
        master_keys=[served.key.read_bytes()],
        deadline=Deadline.after(20),
    )
    yield View(repository, variables={})
    exchange.close()
    cache.close()
