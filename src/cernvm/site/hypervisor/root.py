"""What an instance sees as its file system, put together in a mount namespace of its own.

The root is an overlay: the operating system's tree below, the instance's own layer above. Everything of the host that
shows is named here: six device nodes, the kernel's `/proc` and `/sys` of the instance's namespaces with the parts that
would reach beyond them read-only or masked, and the repositories at `/cvmfs`.
Steps run in the order of `STEPS`; each raises `OSError`, and the launcher reports which one it was.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from cernvm.core.linux import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    pivot_root,
    umount,
    unshare,
)
from cernvm.site.hypervisor.order import Order

DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}  # minors of major 1
TTY = (5, 0)
DEVICE_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "console": "/proc/1/fd/1",
}
READ_ONLY = (
    "bus",
    "fs",
    "irq",
    "sys",
    "sysrq-trigger",
)  # of /proc: settings of the machine, not of the instance
MASKED = ("acpi", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list")  # of /proc

_QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC


def separate(_order: Order) -> None:
    """Leave the host's mount namespace; from here on nothing done to mounts is seen outside, or reaches in."""
    unshare(CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def mount_layers(order: Order) -> None:
    """The overlay; by relative names, so that neither length nor punctuation of the host's paths matters."""
    folder = Path(order.folder)
    for name in ("lower", "upper", "work", "root"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "upper").chmod(0o755)  # the instance's "/"
    os.chdir(folder)
    mount(order.root, "lower", flags=MS_BIND)
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    if in_user_namespace():
        options += ",userxattr"  # the other kind of marks needs the machine's own root
    # no device of the tree or the layer is ever one; set-user-id works as on any machine (see confine)
    mount("overlay", "root", "overlay", flags=MS_NODEV, options=options)


def mount_dev(order: Order) -> None:
    """The devices every program expects, on a memory file system of the instance's own."""
    dev = _mount_point(order, "dev")
    mount("dev", dev, "tmpfs", flags=MS_NOSUID | MS_NOEXEC, options="mode=755,size=1m")
    for name, minor in DEVICES.items():
        _make_device(dev / name, os.makedev(1, minor))
    _make_device(dev / "tty", os.makedev(*TTY))
    for name, target in DEVICE_LINKS.items():
        (dev / name).symlink_to(target)
    (dev / "pts").mkdir()
    mount(
        "devpts",
        dev / "pts",
        "devpts",
        flags=MS_NOSUID | MS_NOEXEC,
        options="newinstance,ptmxmode=0666,mode=620",
    )
    (dev / "shm").mkdir()
    mount("shm", dev / "shm", "tmpfs", flags=_QUIET, options="mode=1777,size=256m")


def mount_proc(order: Order) -> None:
    """The kernel's view of the instance's processes, without the machine's own switches and memory."""
    proc = _mount_point(order, "proc")
    mount("proc", proc, "proc", flags=_QUIET)
    for name in READ_ONLY:
        if (path := proc / name).exists():
            mount(str(path), path, flags=MS_BIND | MS_REC)
            mount("none", path, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | _QUIET)
    for name in MASKED:
        _mask(order, proc / name)


def mount_sys(order: Order) -> None:
    """The kernel's view of devices, read-only; of network links it shows the instance's own."""
    sys = _mount_point(order, "sys")
    mount("sysfs", sys, "sysfs", flags=_QUIET | MS_RDONLY)
    _mask(order, sys / "firmware")


def mount_scratch(order: Order) -> None:
    """`/run` in memory, as at each boot; `/tmp` in the layer, so that big temporary files do not fill memory."""
    mount(
        "run",
        _mount_point(order, "run"),
        "tmpfs",
        flags=MS_NOSUID | MS_NODEV,
        options="mode=755,size=64m",
    )
    _mount_point(order, "tmp").chmod(0o1777)  # as everywhere


def bind_repositories(order: Order) -> None:
    """Each repository at `/cvmfs/NAME`, read-only, without devices and set-user-id."""
    _mount_point(order, "cvmfs")
    for name, path in sorted(order.repositories.items()):
        place = _mount_point(order, f"cvmfs/{name}")
        mount(path, place, flags=MS_BIND)
        mount("none", place, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def enter_root(_order: Order) -> None:
    """Make the overlay `/`, and let go of the host's whole tree."""
    os.chdir("root")
    pivot_root(".", ".")
    umount(".", detach=True)
    os.chdir("/")


STEPS: tuple[tuple[str, Callable[[Order], None]], ...] = (
    ("make a mount namespace", separate),
    ("mount the root overlay", mount_layers),
    ("make /dev", mount_dev),
    ("mount /proc", mount_proc),
    ("mount /sys", mount_sys),
    ("make /run and /tmp", mount_scratch),
    ("bind the repositories", bind_repositories),
    ("enter the root", enter_root),
)


def in_user_namespace() -> bool:
    """Whether root here is not the machine's own."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def _mount_point(order: Order, name: str) -> Path:
    """A folder of the instance's root; never a link, which might lead the host's own root astray."""
    path = Path(order.folder, "root", name)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        path.mkdir(mode=0o755)
        return path
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), f"/{name}")
    return path


def _mask(order: Order, path: Path) -> None:
    """Hide a file behind the instance's `/dev/null`, a folder behind an empty one."""
    if path.is_dir():
        mount("none", path, "tmpfs", flags=_QUIET | MS_RDONLY, options="size=4k")
    elif path.exists():
        mount(f"{order.folder}/root/dev/null", path, flags=MS_BIND)


def _make_device(path: Path, number: int) -> None:
    """A node of the instance's own; where the kernel reserves that to the machine's root, the host's, bound."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, number)
    except PermissionError:
        path.touch()
        mount(f"/dev/{path.name}", path, flags=MS_BIND)
        return
    path.chmod(0o666)  # as everywhere
