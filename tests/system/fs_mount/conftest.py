"""Repositories by the original program behind nginx, and `cvm mount` of them."""

import pytest

from system.samples import serve_sample


@pytest.fixture
def serve(tmp_path):
    """Unpack a sample and serve it."""
    started = []

    def make(name):
        started.append(serve_sample(name, tmp_path / f"srv-{name}"))
        return started[-1]

    yield make
    for served in started:
        served.stop()


@pytest.fixture
def vectors(serve):
    return serve("vectors.cernvm.test")


@pytest.fixture
def point(tmp_path, need_fuse):
    folder = tmp_path / "mnt"
    folder.mkdir()
    return folder


@pytest.fixture
def mount(cvm, point):
    """Run `cvm mount` on a served repository; unmounted at the end whatever happened."""

    def run(served, *options, **settings):
        return cvm(
            "mount", served.name, point, "--url", served.url, "--public-key", served.key,
            *options, **settings,
        )  # fmt: skip

    yield run
    cvm("umount", "--force", point, check=False)
