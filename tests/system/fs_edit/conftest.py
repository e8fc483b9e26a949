"""A published repository to edit, and a way to say what was done to it."""

import os
import sys

import pytest

from cernvm.fs.edit.opening import Bench, begin, run_in
from cernvm.fs.edit.publishing import publish_edits
from cernvm.fs.publish.publishing import publish_tree
from cernvm.fs.publish.repository import open_storage, read_repository
from system.fs_publish.conftest import made_keys, read_back, repository  # noqa: F401

NAME = "t.cernvm.test"
SEEN = f"/cvmfs/{NAME}"


@pytest.fixture
def bench(home, repository, need_fuse):  # noqa: F811
    return Bench(home, repository, open_storage(repository))


@pytest.fixture
def tree(tmp_path):
    """A plain folder; `published` publishes it."""
    root = tmp_path / "tree"
    fill(root)
    return root


def fill(root):
    root.mkdir()
    (root / "hello.txt").write_bytes(b"hello\n" * 100)
    (root / "empty").write_bytes(b"")
    (root / "large").write_bytes(bytes(range(256)) * (40 << 10))
    (root / "run").write_text("#!/bin/sh\necho ran\n")
    (root / "run").chmod(0o755)
    (root / "variant").symlink_to("$(ARCH:-none)/bin")
    for name in ("v1", "v2"):
        folder = root / name
        (folder / "lib" / "deep").mkdir(parents=True)
        (folder / ".cvmfscatalog").touch()
        (folder / "lib" / "a.so").write_bytes(name.encode() * 1000)
        (folder / "lib" / "deep" / "b").write_bytes(b"b")
        (folder / "link").symlink_to("lib/a.so")
        os.setxattr(folder / "lib" / "a.so", "user.note", b"\x00binary\xff")
    for folder, _, files in os.walk(root):
        for name in files:
            os.utime(
                os.path.join(folder, name), ns=(0, 1_600_000_000_123_456_789), follow_symlinks=False
            )


@pytest.fixture
def published(bench, tree):
    return publish_tree(bench.repository, bench.store, tree)


@pytest.fixture
def shell(cvm, published):
    """Run shell commands in an edit; returns the finished process."""

    def run(text, *options, **others):
        script = f"set -e; cd {SEEN}; {text}"
        return cvm("repo", "edit", NAME, *options, "--", "sh", "-c", script, **others)

    return run


@pytest.fixture
def change(bench, published):
    """Run shell commands in an edit and publish what they did, by this process: faster than the command."""

    def run(text, at=b""):
        begin(bench, at=at)
        script = f"set -e; cd {SEEN}; {text}"
        status = run_in(bench, ["sh", "-c", script], environment=dict(os.environ))
        assert status == 0
        return publish_edits(bench)

    return run


def contents(bench):
    """What is published: {path: content of a file, target of a link, None of a folder}."""
    found, _ = read_back(read_repository(bench.home, NAME), bench.store)
    return {
        os.fsdecode(path): os.fsdecode(entry.symlink) if entry.is_symlink else content
        for path, (entry, content) in found.items()
    }


PYTHON = sys.executable
