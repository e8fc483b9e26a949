"""The Linux system calls that Python's library lacks: mounts, namespaces, process ties.

Every function raises `OSError` with the kernel's errno; callers say what it means.
Source: mount(2), umount2(2), unshare(2), setns(2), pivot_root(2), prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19

MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_PR_SET_CHILD_SUBREAPER = 36
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


def mount(
    source: str, target: str | Path, kind: str = "", *, flags: int = 0, options: str = ""
) -> None:
    """mount(2): attach `source` at `target`; `kind` is the file system's type, empty for binds and remounts."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        flags,
        options.encode() or None,
    )
    _check(result, target)


def umount(target: str | Path, *, detach: bool = False) -> None:
    """umount2(2); `detach` hides the mount at once and frees it when its last user is gone."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH if detach else 0), target)


def unshare(flags: int) -> None:
    """Give the calling thread (for PID: its future children) new namespaces of the kinds in `flags`."""
    _check(_libc.unshare(flags))


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread into the namespace behind an open descriptor."""
    _check(_libc.setns(descriptor, kind))


def pivot_root(new_root: str | Path, put_old: str | Path) -> None:
    """Exchange the root of the calling mount namespace."""
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(number, os.fsencode(new_root), os.fsencode(put_old)), new_root)


def sethostname(name: str) -> None:
    """Name the calling UTS namespace."""
    raw = name.encode()
    _check(_libc.sethostname(raw, len(raw)))


def die_with_parent(death_signal: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent *thread* ends; survives exec.

    Concurrency: the parent must start the child from a thread that lives as long as the tie should.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0))


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, so that this process can wait for them."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def limit_heaps(count: int = 2) -> None:
    """Have threads share heaps, and give back what large buffers leave free; the C library may not know how."""
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, count)
        # Set by hand they stay; else the first large buffer that is freed raises them to 64 MB.
        mallopt(_M_MMAP_THRESHOLD, 128 * 1024)
        mallopt(_M_TRIM_THRESHOLD, 1 << 20)


def _check(result: int, path: str | Path | None = None) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *([] if path is None else [str(path)]))
