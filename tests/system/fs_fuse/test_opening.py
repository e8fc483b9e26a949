"""Ways of opening files, as programs and the kernel see them."""

import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from cernvm.fs.fuse import KernelSettings, MemoryNode, MemoryTree, OpenLedger, Session
from conftest import missing

from .conftest import FOR_EVER

FILE = stat.S_IFREG | 0o644
BIG = 3 << 20


class Counting(MemoryTree):
    """Counts reads and requests for a file behind an inode."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.asked = Counter()

    def read(self, inode, offset, size_bytes, patience):
        self.asked["read"] += 1
        return super().read(inode, offset, size_bytes, patience)

    def backing(self, inode, least_bytes):
        self.asked["backing"] += 1
        return super().backing(inode, least_bytes)

    def is_uncached(self, inode):
        self.asked["open"] += 1
        return super().is_uncached(inode)


@pytest.fixture
def tree(tmp_path, seeded):
    backing, small = tmp_path / "backing", tmp_path / "small"
    backing.write_bytes(seeded.randbytes(BIG))
    small.write_bytes(b"small")
    return Counting(
        {
            "big": MemoryNode(FILE, backing.read_bytes(), backing=backing),
            "small": MemoryNode(FILE, b"small", backing=small),
            "changing": MemoryNode(FILE, b"content", is_uncached=True),
        }
    )


def settings(opening):
    return KernelSettings(opening=opening)


def digest_in_another_process(path, how):
    """A mapped read from a process of its own: a page fault holds the interpreter lock that our server needs."""
    script = (
        "import hashlib, mmap, sys; f = open(sys.argv[1], 'rb');"
        f"print(hashlib.sha256(mmap.mmap(f.fileno(), 0, mmap.{how}, mmap.PROT_READ)).hexdigest())"
    )
    return subprocess.run(
        [sys.executable, "-c", script, path], check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()


def content_of(tree, point, name):
    inode = (point / name).stat().st_ino
    return tree._nodes[inode].content


@pytest.mark.parametrize("opening", ["auto", "no-open", "keep-cache", "passthrough"])
def test_every_way_of_opening_shows_the_same_content(mounted, point, tree, opening, seeded):
    mounted(tree, settings=settings(opening))

    for name in ("big", "small", "changing"):
        content = content_of(tree, point, name)
        for _ in range(2):
            assert (point / name).read_bytes() == content
        with (point / name).open("rb") as file:
            place = seeded.randrange(len(content))
            assert os.pread(file.fileno(), 9000, place) == content[place : place + 9000]
        expected = hashlib.sha256(content).hexdigest()
        for how in ("MAP_PRIVATE", "MAP_SHARED"):
            assert digest_in_another_process(point / name, how) == expected


def test_no_open_asks_nothing_when_a_file_is_opened(mounted, point, tree):
    mounted(tree, settings=settings("no-open"))

    for _ in range(3):
        (point / "big").read_bytes()

    assert tree.asked["open"] == 0


@pytest.mark.parametrize("opening", ["keep-cache", "passthrough"])
def test_what_its_publisher_marked_is_read_anew_each_time_and_the_rest_once(
    mounted, point, tree, opening
):
    mounted(tree, settings=settings(opening))

    for _ in range(3):
        (point / "small").read_bytes()
    assert tree.asked["read"] == 1
    for _ in range(3):
        (point / "changing").read_bytes()
    assert tree.asked["read"] >= 4


def need_passthrough(tree):
    if tree.asked["read"]:
        missing("a kernel and the rights for FUSE passthrough (Linux 6.9, CAP_SYS_ADMIN)")


def test_a_big_file_that_is_at_hand_is_read_without_us(mounted, point, tree):
    mount = mounted(tree, settings=settings("passthrough"))
    held = [(point / "big").open("rb") for _ in range(3)]

    for file in held:
        file.read()
    need_passthrough(tree)

    files = mount.session._agreement.files
    assert tree.asked["backing"] == 1, "one number of the kernel serves all openers"
    assert len(files) == 1
    for file in held:
        file.close()
    end = time.monotonic() + 5
    while len(files) and time.monotonic() < end:
        time.sleep(0.01)
    assert len(files) == 0
    (point / "big").read_bytes()
    assert tree.asked == {"backing": 2, "open": 2}


def test_a_file_that_is_open_by_its_pages_stays_so_when_it_gets_a_backing(mounted, point, tree):
    mounted(tree, settings=settings("passthrough"))
    tree.backing = lambda _inode, _least_bytes: None  # not in the cache yet
    with (point / "big").open("rb") as first:
        start = first.read(100)
        del tree.backing
        with (point / "big").open("rb") as second:
            assert second.read(100) == start
            assert first.read() == second.read()


@pytest.mark.parametrize("name", ["big", "changing"])
def test_a_file_stays_open_as_it_is_when_another_session_goes_on(mounted, point, tree, name):
    ledger = OpenLedger()
    before = mounted(tree, settings=settings("passthrough"), opened=ledger)
    tree.backing = lambda _inode, _least_bytes: None  # not in the cache yet
    with (point / name).open("rb") as first:
        start = first.read(5)
        before.session.leave()
        knock = subprocess.Popen(["stat", "-f", point], stdout=subprocess.DEVNULL)
        before.thread.join(5)
        del tree.backing
        after = Session(
            before.descriptor, tree, validity=FOR_EVER, settings=settings("passthrough"),
            opened=OpenLedger(os.dup(ledger.descriptor)),
        )  # fmt: skip
        before.thread = threading.Thread(
            target=after.resume, args=(before.session.heritage,), daemon=True
        )
        before.thread.start()
        knock.wait(5)
        reads = tree.asked["read"]

        script = "import sys; f = open(sys.argv[1], 'rb'); print(f.read(5))"
        done = subprocess.run(
            [sys.executable, "-c", script, point / name],
            check=False, capture_output=True, text=True, timeout=20,
        )  # fmt: skip

        assert (done.stdout.strip(), done.stderr) == (str(start), "")
        assert (tree.asked["read"] > reads) == (name == "changing")


def test_a_backing_that_the_kernel_refuses_is_read_through_us(mounted, point, tree, tmp_path):
    """A file of a FUSE mount cannot be stacked upon where the depth is used up."""
    other = tmp_path / "other"
    other.mkdir()
    lower, upper, work, merged = (other / name for name in ("l", "u", "w", "m"))
    for folder in (lower, upper, work, merged):
        folder.mkdir()
    (lower / "f").write_bytes(content := b"x" * BIG)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    finished = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, merged], check=False
    )
    if finished.returncode:
        missing("overlayfs")
    try:
        mounted(
            MemoryTree({"f": MemoryNode(FILE, content, backing=merged / "f")}),
            settings=settings("passthrough"),
        )
        assert (point / "f").read_bytes() == content
    finally:
        subprocess.run(["umount", "-l", merged], check=False)


def test_a_mapped_file_outlives_its_opener(mounted, point, tree):
    mounted(tree, settings=settings("passthrough"))
    (point / "big").read_bytes()
    need_passthrough(tree)

    script = (
        "import mmap, sys, hashlib; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ);"
        "f.close(); print(hashlib.sha256(m).hexdigest())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, point / "big"],
        check=True, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert finished.stdout.strip() == hashlib.sha256(content_of(tree, point, "big")).hexdigest()
