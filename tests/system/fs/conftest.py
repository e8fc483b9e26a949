"""Tests against the original client. CVMFS_ORIGINAL names a folder with bin/cvmfs2, bin/cvmfs_swissknife and lib/."""

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from conftest import CVM

NAME = "both.cernvm.test"


class Original:
    """The original's programs."""

    def __init__(self, folder):
        self.folder = folder
        lib = str(folder / "lib")
        self.environment = {**os.environ, "LD_LIBRARY_PATH": lib, "CVMFS_LIBRARY_PATH": lib}

    def mount(self, point, *, url, key, cache, name=NAME, settings=""):
        cache.mkdir(exist_ok=True)
        config = cache / "config"
        config.write_text(
            f"CVMFS_SERVER_URL={url}\nCVMFS_HTTP_PROXY=DIRECT\nCVMFS_PUBLIC_KEY={key}\n"
            f"CVMFS_CACHE_BASE={cache}\nCVMFS_RELOAD_SOCKETS={cache}\nCVMFS_QUOTA_LIMIT=4000\n"
            "CVMFS_SHARED_CACHE=no\nCVMFS_CLIENT_PROFILE=\nCVMFS_MAX_RETRIES=0\n" + settings
        )
        program = self.folder / "bin/cvmfs2"
        subprocess.run(
            [program, "-o", f"config={config}", name, point],
            env=self.environment, check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def unmount(self, point):
        for _ in range(100):
            done = subprocess.run(["umount", point], check=False, capture_output=True)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(["umount", "-l", point], check=True)

    def swissknife(self, *words):
        return subprocess.run(
            [self.folder / "bin/cvmfs_swissknife", *map(str, words)],
            env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="session")
def original():
    folder = os.environ.get("CVMFS_ORIGINAL")
    if not folder:
        pytest.skip("CVMFS_ORIGINAL does not name an original client")
    if os.geteuid() != 0:
        pytest.skip("the original client mounts as root")
    return Original(Path(folder))


class Both:
    """A repository of ours, served; and a place to mount it by both clients."""

    def __init__(self, base, undo, original):
        self.base = base
        self.tree = base / "tree"
        self.home = base / "home"
        self.ours, self.theirs = base / "ours", base / "theirs"
        for folder in (self.ours, self.theirs, self.tree):
            folder.mkdir()
        plant(self.tree)
        self.cvm("repo", "create", NAME)
        self.cvm("repo", "publish", NAME, self.tree, "--tag", "first")
        self.url = self.serve(undo)
        self.key = next(self.home.rglob(f"{NAME}.pub"))
        self.cvm("mount", NAME, self.ours)
        undo.callback(self.cvm, "umount", "--force", self.ours)
        original.mount(self.theirs, url=self.url, key=self.key, cache=base / "cache-original")
        undo.callback(original.unmount, self.theirs)

    def cvm(self, *words):
        environment = {**os.environ, "CVM_HOME": str(self.home)}
        return subprocess.run(
            [CVM, *map(str, words)],
            env=environment, check=True, capture_output=True, text=True, timeout=60,
        ).stdout  # fmt: skip

    def serve(self, undo):
        server = subprocess.Popen(
            [CVM, "repo", "serve", "--port", "0"],
            env={**os.environ, "CVM_HOME": str(self.home)}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        undo.callback(server.wait, 10)
        undo.callback(server.terminate)
        undo.callback(server.stdout.close)
        return server.stdout.readline().split()[-1] + f"/cvmfs/{NAME}"


@pytest.fixture(scope="module")
def both(original, tmp_path_factory):
    base = Path(tempfile.mkdtemp(prefix="both-", dir=tmp_path_factory.getbasetemp()))
    base.chmod(0o755)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, base, ignore_errors=True)
        yield Both(base, undo, original)


def plant(tree):
    """Every kind of entry that a publisher here writes."""
    noise = random.Random(1)
    for number in range(300):
        folder = tree / f"many/d{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(noise.randbytes(noise.randrange(3000)))
    (tree / "empty").touch()
    (tree / "big").write_bytes(noise.randbytes(20_000_000))
    (tree / "script").write_text("#!/bin/sh\necho ran\n")
    (tree / "script").chmod(0o755)
    (tree / "odd \udcff\n").write_bytes(b"odd")
    (tree / "link").symlink_to("script")
    (tree / "nested").mkdir()
    (tree / "nested/.cvmfscatalog").touch()
    (tree / "nested/inside").write_bytes(b"inside")
    (tree / "closed").write_bytes(b"closed")
    (tree / "closed").chmod(0o600)
    os.mkfifo(tree / "fifo")
    os.utime(tree / "script", (1_000_000_000, 1_000_000_000))
