"""Repositories by the original program behind nginx, and `cvm mount` of them."""

from contextlib import suppress

import pytest

from attack.fs_reader.forge import MASTER_KEY, NAME, public
from cernvm.core.errors import CvmError
from cernvm.fs.mount import unmount
from system.samples import serve_sample, serve_tree


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
def serve_documents(tmp_path):
    """Serve documents (path -> bytes) from a folder."""
    started = []

    def serve(documents, *, folder, rules=""):
        tree = tmp_path / folder / "tree"
        for path, data in documents.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        key = tmp_path / "key.pub"
        key.write_bytes(public(MASTER_KEY))
        started.append(serve_tree(NAME, tree, key=key, rules=rules))
        return started[-1]

    yield serve
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
def mount(cvm, home, point):
    """Run `cvm mount` on a served repository; unmounted at the end whatever happened."""

    def run(served, *options, **settings):
        return cvm(
            "mount", served.name, point, "--url", served.url, "--public-key", served.key,
            *options, **settings,
        )  # fmt: skip

    yield run
    with suppress(CvmError):
        unmount(point, home.run, force=True)
