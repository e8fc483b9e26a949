"""Repositories by the original program behind nginx, opened without any mount."""

import pytest

from cernvm.fs.api import open_repository
from system.samples import serve_sample


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """The repository of oddities, served for all tests of a module."""
    served = serve_sample("vectors.cernvm.test", tmp_path_factory.mktemp("served"))
    yield served
    served.stop()


@pytest.fixture
def opened(vectors, tmp_path):
    """The repository, open."""
    with open_repository(
        vectors.name, url=vectors.url, public_keys=[vectors.key], cache=tmp_path / "cache"
    ) as repository:
        yield repository


@pytest.fixture
def mortal(tmp_path):
    """The repository, open, behind a server of the test's own that it may stop."""
    served = serve_sample("vectors.cernvm.test", tmp_path / "mortal")
    with open_repository(
        served.name, url=served.url, public_keys=[served.key], cache=tmp_path / "cache"
    ) as repository:
        yield served, repository
    served.stop()
