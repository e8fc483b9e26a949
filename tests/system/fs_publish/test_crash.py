"""Publishers that are killed, collide or run out of disk: the last revision is whole, the next one right."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from .conftest import check_equal, read_back

PUBLISH = """\
import sys
from pathlib import Path
from cernvm.core.home import Home
from cernvm.fs.publish.publishing import publish_tree
from cernvm.fs.publish.repository import read_repository
from cernvm.fs.store.local import LocalStore
repository = read_repository(Home(Path(sys.argv[1])), "t.cernvm.test")
print("go", flush=True)
publish_tree(repository, LocalStore(Path(repository.storage)), Path(sys.argv[2]))
"""


def start(home, tree):
    child = subprocess.Popen(
        [sys.executable, "-c", PUBLISH, str(home.path), str(tree)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "go\n"
    return child


def change(tree, number, source):
    for name in source.sample(range(40), 8):
        (tree / f"f{name}").write_bytes(source.randbytes(source.randrange(60_000)))
    (tree / "number").write_text(str(number))


@pytest.fixture
def small(tmp_path):
    tree = tmp_path / "small"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / ".cvmfscatalog").touch()
    (tree / "sub" / "file").write_bytes(b"sub")
    return tree


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_killed_at_any_moment_the_last_revision_is_whole(
    home, repository, store, small, count, seeded
):
    change(small, 0, seeded)
    started = time.monotonic()
    start(home, small).communicate(timeout=30)
    whole_s = time.monotonic() - started
    last, published = 1, {1: "0"}
    killed = 0
    for number in range(1, count(200, 20) + 1):
        change(small, number, seeded)
        child = start(home, small)
        time.sleep(seeded.uniform(0, whole_s))
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=30)
        killed += child.returncode == -signal.SIGKILL

        found, manifest = read_back(repository, store, may_run_ahead=True)
        assert manifest.revision in (last, last + 1)
        if manifest.revision == last + 1:
            published[last + 1] = str(number)
        last = manifest.revision
        assert found[b"/number"][1].decode() == published[last]

    assert killed
    for leftover in (store.folder / "data/txn").iterdir():
        os.utime(leftover, (0, 0))  # it is a while later
    change(small, "last", seeded)
    start(home, small).communicate(timeout=30)
    found, manifest = read_back(repository, store)
    assert manifest.revision == last + 1
    check_equal(small, found)
    left = {path.name for path in (store.folder / "data/txn").iterdir()}
    assert left == {"publisher.lock", "synced"}


def test_of_two_publishers_one_is_told(home, repository, store, small):
    change(small, 0, random.Random(1))
    with store.exclusive():
        child = start(home, small)
        _, told = child.communicate(timeout=30)

    assert "TransactionOpenError" in told
    assert read_back(repository, store)[1].revision == 0


FULL = """\
import os, sys
from pathlib import Path
from cernvm.core import linux
from cernvm.core.errors import SpaceError
from cernvm.core.home import Home
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.publishing import publish_tree
from cernvm.fs.publish.repository import new_repository
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.store.local import LocalStore
folder = Path(sys.argv[1])
linux.unshare(linux.CLONE_NEWNS)
linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
linux.mount("tmpfs", folder, "tmpfs", options="size=2m")
home = Home(folder / "home")
repository = new_repository(home, "t.cernvm.test")
create_repository(home, repository)
store = LocalStore(Path(repository.storage))
tree = Path(sys.argv[2])
(tree / "big").write_bytes(os.urandom(4 << 20))
try:
    publish_tree(repository, store, tree)
except SpaceError as error:
    print("SpaceError:", error)
print("revision", read_manifest(repository, store).revision)
(tree / "big").unlink()
for path in store.paths("data/"):
    if path[-1].islower() or path[-1].isdigit():
        (store.folder / path).unlink()
print("then", publish_tree(repository, store, tree).revision)
"""


def test_a_full_disk_ends_it_and_the_last_revision_stands(tmp_path, small):
    if os.geteuid() != 0:
        pytest.skip("needs root for a mount namespace")
    (tmp_path / "full").mkdir()
    child = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "full"), str(small)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "No space left on device" in child.stdout, child.stderr
    assert child.stdout.endswith("revision 0\nthen 1\n")
