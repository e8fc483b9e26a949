"""What programs may expect of a read-only file system: every action on a mount ends as on a read-only ext4.

The same tree stands twice: published and mounted, and bound read-only from the disk. An action gives a value or an
errno, and both places must agree.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conftest import CVM

NAME = "posix.cernvm.test"
LONG = "l" * 255


@pytest.fixture(scope="module")
def places(tmp_path_factory, request):
    """The folder of the mount and the folder of the disk."""
    if os.geteuid() != 0:
        pytest.skip("binds a folder read-only: needs root")
    request.getfixturevalue("fuse_or_skip")
    base = Path(tempfile.mkdtemp(prefix="posix-", dir=tmp_path_factory.getbasetemp()))
    base.chmod(0o755)
    environment = {**os.environ, "CVM_HOME": str(base / "home")}

    def cvm(*words):
        subprocess.run([CVM, *map(str, words)], env=environment, check=True, timeout=60)

    tree, disk, mnt = base / "tree", base / "disk", base / "mnt"
    for folder in (tree, disk, mnt):
        folder.mkdir()
    plant(tree)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, base, ignore_errors=True)
        subprocess.run(["mount", "--bind", tree, disk], check=True)
        undo.callback(subprocess.run, ["umount", disk], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", disk], check=True)
        cvm("repo", "create", NAME)
        cvm("repo", "publish", NAME, tree)
        server = subprocess.Popen(
            [CVM, "repo", "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE
        )
        undo.callback(server.wait, 10)
        undo.callback(server.terminate)
        undo.callback(server.stdout.close)
        server.stdout.readline()
        cvm("mount", NAME, mnt)
        undo.callback(cvm, "umount", "--force", mnt)
        yield mnt, disk


@pytest.fixture(scope="module")
def fuse_or_skip():
    from conftest import missing

    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        missing("/dev/fuse cannot be opened")


def plant(tree):
    (tree / "small").write_bytes(b"0123456789")
    (tree / "empty").touch()
    (tree / "big").write_bytes(bytes(range(256)) * 4096 * 5)
    (tree / "script").write_text("#!/bin/sh\necho ran\n")
    (tree / "script").chmod(0o755)
    (tree / "secret").write_bytes(b"x")
    (tree / "secret").chmod(0o600)
    (tree / "odd\n\xff name").write_bytes(b"y")
    (tree / LONG).write_bytes(b"long")
    (tree / "sub/deeper").mkdir(parents=True)
    (tree / "sub/file").write_bytes(b"z")
    (tree / "closed").mkdir()
    (tree / "closed/file").write_bytes(b"w")
    (tree / "closed").chmod(0o700)
    (tree / "bare").mkdir()
    (tree / "link").symlink_to("small")
    (tree / "to-sub").symlink_to("sub")
    (tree / "dangling").symlink_to("nowhere")
    (tree / "loop").symlink_to("loop")
    (tree / "out").symlink_to("/etc/hostname")
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(tree)  # a socket's path has an upper bound that a deep folder exceeds
        try:
            bound.bind("socket")
        finally:
            os.chdir(here)
    os.utime(tree / "small", ns=(1, 1_234_567_890_123_456_789))


# Each action takes the root of a place and gives what must be the same in both.


def status_of(name, **how):
    def action(root):
        got = os.stat(root / name, **how)
        size = None if stat.S_ISDIR(got.st_mode) else got.st_size
        links = None if stat.S_ISDIR(got.st_mode) else got.st_nlink
        return stat.filemode(got.st_mode), size, links, got.st_uid, got.st_gid, got.st_mtime_ns

    return action


def opened(name, flags, then=lambda _descriptor: "opened"):
    def action(root):
        descriptor = os.open(root / name, flags, 0o644)
        try:
            return then(descriptor)
        finally:
            os.close(descriptor)

    return action


def as_nobody(action):
    """Run an action in a process that is user 65534."""

    def forked(root):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(writer, repr(outcome(action, root)).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as answer:
            text = answer.read().decode()
        os.waitpid(child, 0)
        return text

    return forked


def mapped(access, flags=mmap.MAP_SHARED):
    def then(descriptor):
        with mmap.mmap(descriptor, 4096, flags=flags, prot=access) as view:
            return view[:16]

    return then


def relative(root):
    folder = os.open(root / "sub", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return (
            sorted(os.listdir(folder)),
            os.stat("../small", dir_fd=folder).st_size,
            os.access("file", os.R_OK, dir_fd=folder),
            os.readlink("../to-sub", dir_fd=folder),
        )
    finally:
        os.close(folder)


def in_child(root, code):
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    return finished.returncode, finished.stdout


def sent(descriptor):
    with tempfile.TemporaryFile() as target:
        count = os.sendfile(target.fileno(), descriptor, 100, 5000)
        target.seek(0)
        return count, target.read()


def copied(descriptor):
    with tempfile.TemporaryFile() as target:
        left = 100_000
        while left:
            left -= os.copy_file_range(descriptor, target.fileno(), left)
        target.seek(0)
        return target.read()


def spliced(descriptor):
    reader, writer = os.pipe()
    try:
        count = os.splice(descriptor, writer, 4096, offset_src=100)
        return count, os.read(reader, 4096)
    finally:
        os.close(reader)
        os.close(writer)


def seek(offset, whence):
    return lambda descriptor: os.lseek(descriptor, offset, whence)


def polled(descriptor):
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLOUT)
    return poll.poll(0)[0][1]


def scanned(root):
    with os.scandir(root) as entries:
        return sorted(
            (entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink())
            for entry in entries
        )


def locked(kind):
    def then(descriptor):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return "locked"

    return then


R, W = os.O_RDONLY, os.O_WRONLY
NAMES = (
    "small", "empty", "big", "script", "secret", "odd\n\xff name", LONG, "sub", "sub/deeper", "closed", "bare",
    "link", "to-sub", "dangling", "loop", "out", "fifo", "socket", ".", "sub/..", "sub/./file", "missing",
    "small/below", "link/below", "to-sub/file", "loop/below", "dangling/below", "x" * 256, "small/", "sub/",
)  # fmt: skip
ACTIONS = {
    **{f"stat {n[:20]!r}": status_of(n) for n in NAMES},
    **{f"lstat {n[:20]!r}": status_of(n, follow_symlinks=False) for n in NAMES},
    **{f"access {n[:20]!r}": lambda root, n=n: [os.access(root / n, mode) for mode in range(8)] for n in NAMES},
    **{f"nobody's access {n[:20]!r}": as_nobody(lambda root, n=n: [os.access(root / n, mode) for mode in range(8)])
       for n in NAMES},
    **{f"readlink {n[:20]!r}": lambda root, n=n: os.readlink(root / n) for n in NAMES},
    **{f"list {n[:20]!r}": lambda root, n=n: sorted(os.listdir(root / n)) for n in NAMES},
    **{f"open {n[:20]!r} {word}": opened(n, flags | os.O_NONBLOCK)
       for n in NAMES
       for word, flags in {
           "to read": R, "to write": W, "for both": os.O_RDWR, "to append": W | os.O_APPEND,
           "to truncate": W | os.O_TRUNC, "to create": W | os.O_CREAT, "to create anew": W | os.O_CREAT | os.O_EXCL,
           "as a directory": R | os.O_DIRECTORY, "without links": R | os.O_NOFOLLOW, "as a path": os.O_PATH,
       }.items()},
    **{f"nobody opens {n[:20]!r}": as_nobody(opened(n, R | os.O_NONBLOCK)) for n in NAMES},
    "nobody reads below a closed folder": as_nobody(opened("closed/file", R)),
    "nobody lists a closed folder": as_nobody(lambda root: os.listdir(root / "closed")),
    "scan": scanned,
    "read": opened("small", R, lambda d: os.read(d, 100)),
    "read nothing": opened("small", R, lambda d: os.read(d, 0)),
    "read again at the end": opened("small", R, lambda d: [os.read(d, 6) for _ in range(4)]),
    "read an empty file": opened("empty", R, lambda d: os.read(d, 10)),
    "read a folder": opened("sub", R, lambda d: os.read(d, 10)),
    "read with a path only": opened("small", os.O_PATH, lambda d: os.read(d, 10)),
    "pread across the end": opened("small", R, lambda d: os.pread(d, 100, 5)),
    "pread beyond the end": opened("small", R, lambda d: os.pread(d, 100, 5000)),
    "pread far beyond": opened("small", R, lambda d: os.pread(d, 1, 2**62)),
    "pread before the start": opened("small", R, lambda d: os.pread(d, 100, -1)),
    "pread across pages": opened("big", R, lambda d: os.pread(d, 9000, 4090)),
    "preadv": opened("big", R, lambda d: [os.preadv(d, [bytearray(10), bytearray(5000)], 4096)]),
    "write": opened("small", R, lambda d: os.write(d, b"x")),
    "truncate by descriptor": opened("small", R, lambda d: os.ftruncate(d, 0)),
    "seek to the end": opened("small", R, seek(0, os.SEEK_END)),
    "seek beyond": opened("small", R, seek(100, os.SEEK_SET)),
    "seek before": opened("small", R, seek(-1, os.SEEK_SET)),
    "seek data": opened("big", R, seek(10, os.SEEK_DATA)),
    "seek hole": opened("big", R, seek(10, os.SEEK_HOLE)),
    "seek data at the end": opened("small", R, seek(10, os.SEEK_DATA)),
    "seek on a fifo": opened("fifo", R | os.O_NONBLOCK, seek(0, os.SEEK_SET)),
    "map shared": opened("big", R, mapped(mmap.PROT_READ)),
    "map privately": opened("big", R, mapped(mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE)),
    "map to write": opened("big", R, mapped(mmap.PROT_READ | mmap.PROT_WRITE)),
    "map to run": opened("big", R, mapped(mmap.PROT_READ | mmap.PROT_EXEC)),
    "map a folder": opened("sub", R, mapped(mmap.PROT_READ)),
    "sync": opened("small", R, os.fsync),
    "sync data": opened("small", R, os.fdatasync),
    "sync a folder": opened("sub", R, os.fsync),
    "advise": opened("big", R, lambda d: os.posix_fadvise(d, 0, 0, os.POSIX_FADV_WILLNEED)),
    "allocate": opened("small", R, lambda d: os.posix_fallocate(d, 0, 10)),
    "send": opened("big", R, sent),
    "copy a range": opened("big", R, copied),
    "splice": opened("big", R, spliced),
    "poll": opened("small", R, polled),
    "lock shared": opened("small", R, locked(fcntl.LOCK_SH)),
    "lock alone": opened("small", R, locked(fcntl.LOCK_EX)),
    "lock a range": opened("small", R, lambda d: fcntl.lockf(d, fcntl.LOCK_SH | fcntl.LOCK_NB)),
    "lock a range alone": opened("small", R, lambda d: fcntl.lockf(d, fcntl.LOCK_EX | fcntl.LOCK_NB)),
    "flags": opened("small", R, lambda d: fcntl.fcntl(d, fcntl.F_GETFL) & os.O_ACCMODE),
    "stat by descriptor": opened("big", R, lambda d: (os.fstat(d).st_size, os.fstat(d).st_mtime_ns)),
    "change mode by descriptor": opened("small", R, lambda d: os.fchmod(d, 0o777)),
    "change times by descriptor": opened("small", R, lambda d: os.utime(d, (1, 1))),
    "open by descriptor": opened("small", R, lambda d: Path(f"/proc/self/fd/{d}").read_bytes()),
    "relative to a folder": relative,
    "work in a folder": lambda root: in_child(
        root / "sub", "import os; print(os.path.basename(os.getcwd()), os.stat('..').st_mode)"
    ),
    "run": lambda root: subprocess.run([root / "script"], capture_output=True, check=False).stdout,
    "run what may not be": lambda root: subprocess.run([root / "small"], check=False),
    "run a folder": lambda root: subprocess.run([root / "sub"], check=False),
    "read-only is told": lambda root: bool(os.statvfs(root).f_flag & os.ST_RDONLY),
    "longest name": lambda root: os.statvfs(root).f_namemax,
    "no user attributes": lambda root: [a for a in os.listxattr(root / "small") if not a.startswith("user.")],
    "an unknown attribute": lambda root: os.getxattr(root / "small", "user.no-such"),
    "an unknown name space": lambda root: os.getxattr(root / "small", "nonsense"),
    **{
        f"{word} {n[:20]!r}": lambda root, act=act, n=n: act(root / n)
        for n in ("small", "sub", "bare", "link", "dangling", "missing", "small/below", "missing/below",
                  "x" * 256, "fifo")
        for word, act in {
            "mkdir": os.mkdir, "rmdir": os.rmdir, "unlink": os.unlink,
            "rename": lambda p: os.rename(p, p.parent / "renamed"),
            "rename onto": lambda p: os.rename(p.parent / "empty", p),
            "link": lambda p: os.link(p, p.parent / "linked", follow_symlinks=False),
            "link onto": lambda p: os.link(p.parent / "empty", p),
            "symlink": lambda p: os.symlink("target", p),
            "mkfifo": os.mkfifo,
            "chmod": lambda p: os.chmod(p, 0o700),
            "chown": lambda p: os.chown(p, 1, 1, follow_symlinks=False),
            "utime": lambda p: os.utime(p, (1, 1)),
            "truncate": lambda p: os.truncate(p, 1),
            "setxattr": lambda p: os.setxattr(p, "user.x", b"1"),
            "removexattr": lambda p: os.removexattr(p, "user.x"),
        }.items()
    },
}  # fmt: skip

# The kernel copies ranges within one type of file system only, and the target lies on the disk.
OTHERWISE = {"copy a range": "EXDEV"}


def outcome(action, root):
    try:
        return action(root)
    except OSError as error:
        return errno.errorcode[error.errno]
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name", [pytest.param(n, id=n) for n in ACTIONS])
def test_an_action_ends_as_on_a_read_only_disk(places, name):
    mnt, disk = places
    mounted = outcome(ACTIONS[name], mnt)
    assert mounted == OTHERWISE.get(name, outcome(ACTIONS[name], disk))
