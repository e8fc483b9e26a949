"""What programs see through the kernel of a tree in memory."""

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from cernvm.fs.fuse import KernelSettings, MemoryNode, MemoryTree, MustWaitError
from cernvm.fs.fuse.protocol import ROOT_INODE

FILE = stat.S_IFREG | 0o644


class Counting(MemoryTree):
    """Counts what the kernel had to ask."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.asked = Counter()

    def lookup(self, parent, name, patience):
        self.asked["lookup"] += 1
        return super().lookup(parent, name, patience)

    def read(self, inode, offset, size_bytes, patience):
        self.asked["read"] += 1
        return super().read(inode, offset, size_bytes, patience)

    def children(self, inode, offset, patience):
        self.asked["children"] += 1
        return super().children(inode, offset, patience)


class Stuck(MemoryTree):
    """Reads wait until their deadline."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.reading = threading.Event()

    def read(self, inode, offset, size_bytes, patience):
        if patience is None:
            raise MustWaitError
        self.reading.set()
        time.sleep(patience.remaining_s)
        raise OSError(errno.EIO, "nothing came")


def test_a_tree_looks_as_it_is(mounted, point):
    mounted(
        MemoryTree(
            {
                "file": MemoryNode(FILE, b"x" * 5000, {b"user.a": b"1"}, 7, 8, mtime_ns=123456789),
                "folder/link": MemoryNode(stat.S_IFLNK | 0o777, b"../file"),
                "device": MemoryNode(stat.S_IFCHR | 0o600, rdev=os.makedev(1, 3)),
                "old": MemoryNode(FILE, mtime_ns=-1_500_000_000),
            }
        )
    )

    seen = (point / "file").stat()
    assert (seen.st_size, seen.st_uid, seen.st_gid, seen.st_mtime_ns) == (5000, 7, 8, 123456789)
    assert seen.st_blocks == 10
    assert os.getxattr(point / "file", "user.a") == b"1"
    assert os.listxattr(point / "file") == ["user.a"]
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(point / "file", "user.b")
    assert os.readlink(point / "folder/link") == "../file"
    assert (point / "folder/link").read_bytes() == b"x" * 5000
    assert (point / "device").stat().st_rdev == os.makedev(1, 3)
    assert (point / "old").stat().st_mtime_ns == -1_500_000_000
    assert os.statvfs(point).f_namemax == 255


def test_a_large_directory_is_listed_completely_and_then_from_the_kernels_memory(mounted, point):
    names = [f"{i:05}-{'n' * (i % 200)}" for i in range(3000)]
    tree = Counting({f"d/{name}": MemoryNode(FILE) for name in names})
    mounted(tree)

    assert sorted(os.listdir(point / "d")) == names
    assert {entry.name for entry in os.scandir(point / "d") if entry.is_file()} == set(names)
    asked = tree.asked["children"]
    assert sorted(os.listdir(point / "d")) == names
    assert tree.asked["children"] == asked


def test_content_is_read_at_any_place_and_mapped(mounted, point, seeded):
    content = seeded.randbytes(3_000_001)
    mounted(MemoryTree({"f": MemoryNode(FILE, content)}))

    with (point / "f").open("rb") as file:
        for _ in range(50):
            place = seeded.randrange(len(content))
            assert os.pread(file.fileno(), 70_000, place) == content[place : place + 70_000]
    # in a process of its own: a page fault holds the interpreter lock that our server needs
    script = (
        "import hashlib, mmap, sys; f = open(sys.argv[1], 'rb');"
        "print(hashlib.sha256(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)).hexdigest())"
    )
    mapped = subprocess.run(
        [sys.executable, "-c", script, point / "f"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert mapped.stdout.strip() == hashlib.sha256(content).hexdigest()


def test_the_kernel_asks_once_for_names_absent_names_and_content(mounted, point):
    tree = Counting({"f": MemoryNode(FILE, b"content")})
    mounted(tree)

    for _ in range(3):
        assert (point / "f").read_bytes() == b"content"
        assert not (point / "absent").exists()

    assert tree.asked == {"lookup": 2, "read": 1}


def test_a_new_epoch_makes_the_kernel_ask_again(mounted, point):
    tree = Counting({"f": MemoryNode(FILE, b"old")})
    mount = mounted(tree)
    (point / "f").read_bytes()
    asked = tree.asked["lookup"]

    if not mount.notifier.increment_epoch():
        pytest.skip("this kernel has no epochs (before Linux 6.16)")

    (point / "f").stat()
    assert tree.asked["lookup"] == asked + 1


def test_single_names_and_inodes_can_be_invalidated(mounted, point):
    tree = Counting({"f": MemoryNode(FILE, b"content")})
    mount = mounted(tree)
    inode = (point / "f").stat().st_ino
    (point / "f").read_bytes()
    before = tree.asked.copy()

    mount.notifier.invalidate_entry(ROOT_INODE, b"f")
    mount.notifier.invalidate_entry(ROOT_INODE, b"never heard of")
    mount.notifier.invalidate_inode(inode)
    (point / "f").read_bytes()

    assert tree.asked - before == {"lookup": 1, "read": 1}


def test_a_name_that_expires_is_asked_for_again_and_keeps_its_pages(mounted, point):
    tree = Counting({"d/f": MemoryNode(FILE, b"content")})
    mount = mounted(tree)
    folder = (point / "d").stat().st_ino
    (point / "d/f").read_bytes()
    assert not (point / "d/absent").exists()
    before = tree.asked.copy()

    for parent, name in ((ROOT_INODE, b"d"), (folder, b"f"), (folder, b"absent")):
        mount.notifier.expire_entry(parent, name)
    mount.notifier.expire_entry(folder, b"never heard of")
    (point / "d/f").read_bytes()
    assert not (point / "d/absent").exists()

    assert tree.asked - before == {"lookup": 3}


def test_nothing_can_be_written(mounted, point):
    mounted(MemoryTree({"f": MemoryNode(FILE, b"content")}))

    for attempt in (
        lambda: (point / "f").write_bytes(b""),
        (point / "new").touch,
        (point / "f").unlink,
        (point / "d").mkdir,
        lambda: (point / "f").chmod(0o777),
    ):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno == errno.EROFS


def test_a_killed_reader_dies_at_once_although_its_read_waits(mounted, point):
    tree = Stuck({"f": MemoryNode(FILE, b"content")})
    mounted(tree, settings=KernelSettings(reader_deadline_s=8))
    reader = subprocess.Popen([sys.executable, "-c", f"open({str(point / 'f')!r}).read()"])
    assert tree.reading.wait(5)

    reader.kill()

    assert reader.wait(3) == -signal.SIGKILL


def test_a_read_that_waits_gets_its_error_by_the_deadline_and_others_go_on(mounted, point):
    tree = Stuck({"f": MemoryNode(FILE, b"content"), "g": MemoryNode(FILE)})
    mounted(tree, settings=KernelSettings(reader_deadline_s=1))
    begin = time.monotonic()
    reader = subprocess.Popen(
        [sys.executable, "-c", f"open({str(point / 'f')!r}).read()"], stderr=subprocess.PIPE
    )
    assert tree.reading.wait(5)

    assert {entry.name for entry in os.scandir(point)} == {"f", "g"}
    (point / "g").stat()
    os.statvfs(point)
    _, complaint = reader.communicate(timeout=5)

    assert b"Input/output error" in complaint
    assert time.monotonic() - begin < 5


def test_eight_readers_at_once_see_the_same_content(mounted, point, seeded):
    contents = {f"f{i}": seeded.randbytes(200_000) for i in range(10)}
    mounted(MemoryTree({name: MemoryNode(FILE, data) for name, data in contents.items()}))
    wrong = []

    def read_all():
        for name, data in contents.items():
            if (point / name).read_bytes() != data:
                wrong.append(name)

    readers = [threading.Thread(target=read_all) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)

    assert not wrong
