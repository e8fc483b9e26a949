"""Trees as nobody wants them: a clear error that names the path, or a right result; never a broken revision."""

import os
import resource
import shutil
import stat
import subprocess
import sys
import threading

import pytest
from tests.system.fs_publish.conftest import (
    check_equal,
    made_keys,
    read_back,
    repository,
    store,
)

from cernvm.core.errors import (
    ChangedError,
    InvalidInputError,
    NotFoundError,
)
from cernvm.fs.publish.publishing import publish_tree

__all__ = ["made_keys", "repository", "store"]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    (root / "file").write_bytes(b"content")
    return root


def published(repository, store, tree):
    publish_tree(repository, store, tree)
    found, _ = read_back(repository, store)
    check_equal(tree, found)
    return found


def unharmed(repository, store):
    assert read_back(repository, store)[1].revision == 0
    assert list(store.paths("data/txn")) == []


NAMES = [
    b"n" * 255,
    b"\xff\xfe raw \x80",
    b"new\nline",
    b"\x01\x1b[31m",
    "ünïcode-e\u0301".encode(),
    b"-rf",
    b" ",
    b"...",
    b"%s%n",
    b"'; DROP TABLE catalog; --",
    b".cvmfs-not-reserved",
]


def test_any_name_that_a_disk_holds_is_published(repository, store, tree):
    for name in NAMES:
        with open(os.fsencode(tree) + b"/" + name, "wb") as file:
            file.write(name)
        os.mkdir(os.fsencode(tree) + b"/d" + name[:254])
        os.symlink(name, os.fsencode(tree) + b"/l" + name[:254])

    found = published(repository, store, tree)
    assert all(found[b"/" + name][1] == name for name in NAMES)


def test_sparse_files_are_their_zeros(repository, store, tree):
    with (tree / "sparse").open("wb") as file:
        file.truncate(20 << 20)
        file.seek(9 << 20)
        file.write(b"data")
    published(repository, store, tree)


def deep(tree, depth, name):
    """A chain of directories that is longer than any path may be."""
    here = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        following = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = following
    descriptor = os.open(b"last", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here)
    os.write(descriptor, b"deep")
    os.close(descriptor)
    os.close(here)


@pytest.mark.parametrize(("depth", "name"), [(1000, b"d"), (40, b"n" * 200)], ids=["deep", "long"])
def test_deep_trees_are_published_without_a_descriptor_for_each_level(
    repository, store, tree, depth, name
):
    deep(tree, depth, name)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        publish_tree(repository, store, tree)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    found, _ = read_back(repository, store)
    assert found[(b"/" + name) * depth + b"/last"][1] == b"deep"
    subprocess.run(["rm", "-rf", str(tree)], check=True)


def test_special_files_are_published_as_what_they_are(repository, store, tree):
    os.mkfifo(tree / "fifo")  # opening it would wait for ever
    if os.geteuid() == 0:
        os.mknod(
            tree / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5)
        )  # reading it would never end
        os.mknod(tree / "block", stat.S_IFBLK | 0o600, os.makedev(7, 255))
    published(repository, store, tree)


def test_links_to_anywhere_are_published_and_never_followed(repository, store, tree):
    (tree / "etc").symlink_to("/etc")
    (tree / "loop").symlink_to("loop")
    (tree / "up").symlink_to("../../../..")
    found = published(repository, store, tree)
    assert b"/etc/passwd" not in found


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
needs_user = pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not installed")


@needs_root
def test_a_tree_that_is_mounted_into_itself_is_refused(repository, store, tree, tmp_path):
    (tree / "a" / "again").mkdir(parents=True)
    code = (
        "import sys; from pathlib import Path\n"
        "from cernvm.fs.publish.source import walk_folders\n"
        "for folder in walk_folders(Path(sys.argv[1])): pass\n"
    )
    script = f"mount --rbind {tree} {tree}/a/again && exec {sys.executable} -c '{code}' {tree}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "a/again' holds itself" in done.stderr


@needs_root
@needs_user
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_may_not_be_read_is_named(repository, store, tree, what):
    place = tree / "secret"
    place.mkdir() if what == "folder" else place.write_bytes(b"secret")
    place.chmod(0)
    code = (
        "import sys, tempfile; from pathlib import Path\n"
        "from cernvm.core.home import Home\n"
        "from cernvm.core.errors import DeniedError\n"
        "from cernvm.fs.publish.creating import create_repository\n"
        "from cernvm.fs.publish.publishing import publish_tree\n"
        "from cernvm.fs.publish.repository import new_repository, open_storage\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    home = Home(Path(folder)); made = new_repository(home, 'u.cernvm.test')\n"
        "    create_repository(home, made)\n"
        "    try: publish_tree(made, open_storage(made), Path(sys.argv[1]))\n"
        "    except DeniedError as error: print(error.what)\n"
    )
    for folder in (tree, *tree.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    done = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            sys.executable,
            "-c",
            code,
            str(tree),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert done.stdout.strip().startswith(f"'{place}' may not be read"), done.stderr


@pytest.mark.parametrize("part", ["storage", "data", "key"])
def test_a_tree_that_holds_what_belongs_to_the_repository_is_refused(repository, store, home, part):
    tree = {"storage": home.path, "data": home.storage, "key": home.keys}[part]
    with pytest.raises(InvalidInputError, match="own storage or key"):
        publish_tree(repository, store, tree)
    unharmed(repository, store)


@needs_root
@pytest.mark.parametrize("secret", ["master", "signing", "next_signing", "second", "gateway"])
def test_no_secret_is_published_under_another_name(repository, store, tree, secret):
    path = getattr(repository.keys, secret)
    path.touch()
    os.link(path, tree / "innocent")
    with pytest.raises(InvalidInputError, match="innocent"):
        publish_tree(repository, store, tree)


class Meddler:
    """Does something to a tree again and again while it is published."""

    def __init__(self, act):
        self._act = act
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        number = 0
        while not self._end.is_set():
            self._act(number)
            number += 1

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()


def grow(tree, _number):
    with (tree / "busy").open("ab") as file:
        file.write(b"more" * 1000)
    if (tree / "busy").stat().st_size > 1 << 22:
        os.truncate(tree / "busy", 0)


def come_and_go(tree, number):
    (tree / f"x{number % 7}").write_bytes(b"%d" % number)
    (tree / f"x{(number + 3) % 7}").unlink(missing_ok=True)


def swap(tree, number):
    place = tree / "swapped"
    if number % 2:
        shutil.rmtree(place, ignore_errors=True)
        place.write_bytes(b"a file")
    else:
        place.unlink(missing_ok=True)
        place.mkdir(exist_ok=True)
        (place / "inside").write_bytes(b"inside")


@pytest.mark.parametrize("act", [grow, come_and_go, swap])
def test_a_tree_that_changes_meanwhile_is_published_right_or_not_at_all(
    repository, store, tree, act, count
):
    for number in range(200):
        (tree / f"calm{number}").write_bytes(b"%d" % number)
    outcomes = set()
    with Meddler(lambda number: act(tree, number)):
        for _ in range(count(100)):
            try:
                publish_tree(repository, store, tree)
                outcomes.add("published")
            except (ChangedError, NotFoundError) as error:
                outcomes.add("refused" if str(tree) in str(error) else str(error))
    read_back(repository, store)  # every object by its digest and size
    assert outcomes <= {"published", "refused"}
    publish_tree(repository, store, tree)
    check_equal(tree, read_back(repository, store)[0])


@needs_root
def test_a_disk_that_fills_up_leaves_the_last_revision(home, tree, tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from cernvm.core.home import Home\n"
        "from cernvm.core.errors import SpaceError\n"
        "from cernvm.fs.publish.creating import create_repository\n"
        "from cernvm.fs.publish.publishing import publish_tree\n"
        "from cernvm.fs.publish.repository import new_repository, open_storage\n"
        "from cernvm.fs.publish.revision import read_manifest\n"
        "home = Home(Path(sys.argv[1])); made = new_repository(home, 'f.cernvm.test')\n"
        "create_repository(home, made); store = open_storage(made); tree = Path(sys.argv[2])\n"
        "print(publish_tree(made, store, tree).revision)\n"
        "(tree / 'large').write_bytes(os.urandom(12 << 20))\n"
        "try: publish_tree(made, store, tree)\n"
        "except SpaceError as error: print('full')\n"
        "print(read_manifest(made, store).revision)\n"
        "(tree / 'large').write_bytes(b'small')\n"
        "print(publish_tree(made, store, tree).revision)\n"
    )
    small = tmp_path / "small"
    small.mkdir()
    script = f'mount -t tmpfs -o size=8m none {small} && exec {sys.executable} -c "$0" {small}/home {tree}'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["1", "full", "1", "2"], done.stderr
