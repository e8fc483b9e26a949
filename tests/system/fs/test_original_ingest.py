"""What was ingested from archives is what the original mounts and accepts."""

import contextlib
import os
import shutil
import subprocess

import pytest

from .conftest import NAME, Both, plant
from .test_original import listing


class Ingested(Both):
    """A repository made of a tar, served and mounted by the original."""

    def __init__(self, base, undo, original):
        self.base, self.home = base, base / "home"
        self.tree, self.theirs = base / "tree", base / "theirs"
        for folder in (self.tree, self.theirs):
            folder.mkdir()
        plant(self.tree)
        os.link(self.tree / "script", self.tree / "same script")
        archive = base / "a.tar.gz"
        pack = ["tar", "-C", self.tree, "--format=posix", "-czf", archive, "."]
        subprocess.run(pack, check=True, timeout=60)
        self.cvm("repo", "create", NAME)
        self.cvm("repo", "ingest", NAME, archive, "--tag", "first")
        self.cvm("repo", "ingest", NAME, archive, "--at", "/again", "--nested")
        self.url = self.serve(undo)
        self.key = next(self.home.rglob(f"{NAME}.pub"))
        original.mount(self.theirs, url=self.url, key=self.key, cache=base / "cache-original")
        undo.callback(original.unmount, self.theirs)


@pytest.fixture(scope="module")
def ingested(original, tmp_path_factory):
    base = tmp_path_factory.mktemp("ingested")
    base.chmod(0o755)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, base, ignore_errors=True)
        yield Ingested(base, undo, original)


def test_the_original_shows_what_a_tar_held(ingested):
    again = ingested.theirs / "again"

    found = listing(again)
    found.pop(".cvmfscatalog")
    assert found == listing(ingested.tree)
    assert (again / "script").stat().st_ino == (again / "same script").stat().st_ino


def test_the_original_accepts_what_was_ingested(ingested, original, tmp_path):
    (tmp_path / "t").mkdir()

    checked = original.swissknife(
        *("check", "-r", ingested.url, "-t", tmp_path / "t", "-k", ingested.key),
        *("-N", NAME, "-c", "-l", "1"),
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "no problems found" in checked.stdout + checked.stderr
