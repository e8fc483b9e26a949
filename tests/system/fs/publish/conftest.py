"""One repository with two publishers, ours and the original's, and a web server before it."""

import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cernvm.core.digest import Algorithm
from cernvm.core.home import Home
from cernvm.fs.format.compress import Compression
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.repository import new_repository, open_storage, write_record
from system.fs.conftest import plant
from system.original_server import OriginalServer

NAME = "shared.cernvm.test"


class Shared:
    """A repository that both can publish to. Shape: `url` exports it; `point` is where clients mount it."""

    def __init__(self, base, undo, original, *, algorithm, compression, settings=None):
        self.base, self.original = base, original
        self.home = Home(base / "home")
        self.tree, self.point = base / "tree", base / "mnt"
        self.point.mkdir()
        made = new_repository(
            self.home, NAME, storage=base / "www", algorithm=algorithm, compression=compression
        )
        self.repository = made if settings is None else replace(made, settings=settings)
        self.first = create_repository(self.home, self.repository)
        write_record(self.home, self.repository)
        self._undo = undo
        self.store = open_storage(self.repository)
        self.url = self.serve(base / "www")
        self.key = self.repository.keys.public
        self._caches = iter(range(1000))

    def serve(self, folder):
        """The URL that exports a folder until the end of the test."""
        server = subprocess.Popen(
            ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._undo.callback(server.stdout.close)
        self._undo.callback(server.wait, 10)
        self._undo.callback(server.terminate)
        return f"http://127.0.0.1:{server.stdout.readline().split('port ')[1].split()[0]}"

    def theirs(self):
        """The original's publisher, which goes on where the repository stands."""
        server = OriginalServer(
            self.original.folder, name=NAME, work=self.base / "spool",
            storage=Path(self.repository.storage), keys=self.repository.keys.folder, url=self.url,
        )  # fmt: skip
        self._undo.callback(server.close)
        return server

    def publish(self, tree=None, **options):
        return publish_tree(
            self.repository, self.store, tree or self.tree, options=Options(**options)
        )

    def mounted(self, show, url=None):
        """What `show` makes of the repository as the original's client mounts it."""
        cache = self.base / f"cache-{next(self._caches)}"
        self.original.mount(self.point, url=url or self.url, key=self.key, cache=cache, name=NAME)
        try:
            return show(self.point)
        finally:
            self.original.unmount(self.point)

    def check(self):
        """Nothing, or what the original's check finds."""
        (self.base / "check").mkdir(exist_ok=True)
        self.theirs()  # keeps what the reflog is
        checked = self.original.swissknife(
            "check", "-r", self.url, "-t", self.base / "check", "-k", self.key, "-N", NAME, "-c", "-l", "1",
            "-R", self.base / "spool/reflog.chksum",
        )  # fmt: skip
        said = checked.stdout + checked.stderr
        return "" if checked.returncode == 0 and "no problems found" in said else said


@pytest.fixture
def share(original, tmp_path_factory):
    """Makes shared repositories, each with the tree that has every kind of entry."""
    with ExitStack() as undo:

        def make(*, algorithm=Algorithm.SHA1, compression=Compression.ZLIB, settings=None):
            base = Path(tempfile.mkdtemp(prefix="shared-", dir=tmp_path_factory.getbasetemp()))
            base.chmod(0o755)
            undo.callback(shutil.rmtree, base, ignore_errors=True)
            (base / "tree").mkdir()
            plant(base / "tree")
            return Shared(
                base,
                undo,
                original,
                algorithm=algorithm,
                compression=compression,
                settings=settings,
            )

        yield make
