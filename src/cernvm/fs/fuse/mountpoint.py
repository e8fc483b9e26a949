"""Putting a FUSE file system at a place and taking it away: as root, in a user namespace, or by fusermount3.

mount(2) is tried first: it works for root, and inside a user namespace whose owner may open /dev/fuse. An ordinary user
outside of one is helped by the setuid program fusermount3, which hands the opened device back over a socket.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from cernvm.core import linux
from cernvm.core.errors import (
    DeadlineError,
    DeniedError,
    ExistsError,
    InvalidInputError,
    NotFoundError,
    PrerequisiteError,
    UnavailableError,
)
from cernvm.core.log import fields
from cernvm.fs.fuse.mountinfo import mount_at

KIND = "fuse.cernvm"
DEVICE = Path("/dev/fuse")

_FLAGS = linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
_HELPER = "fusermount3"
_HELPER_DEADLINE_S = 10.0
_PROBE_DEADLINE_S = 2.0
_FUSE_CONF = Path("/etc/fuse.conf")

log = logging.getLogger(__name__)


def attach(point: Path, *, source: str) -> int:
    """Mount at the folder `point`, shown as `source` in the mount table; returns the descriptor to serve.

    What a killed server left at `point` is swept away first.
    Errors: `ExistsError` when a live mount of ours is there; `NotFoundError`, `InvalidInputError` for the folder;
    `PrerequisiteError`, `DeniedError` when this machine or this user cannot mount.
    """
    sweep(point)
    _check_folder(point)
    try:
        return _mount_by_kernel(point, source)
    except PermissionError:
        log.info("mount.helped", extra=fields(point=str(point), helper=_HELPER))
        return _mount_by_helper(point, source)


def detach(point: Path, *, lazily: bool = False) -> None:
    """Unmount what is at `point`; `lazily` hides it at once although it is in use.

    Errors: `UnavailableError` while it is in use; `NotFoundError` when nothing is mounted there.
    """
    try:
        linux.umount(point, detach=lazily)
    except PermissionError:
        _unmount_by_helper(point, lazily=lazily)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _busy(point) from None
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise NotFoundError("mount at", str(point)) from None
        raise DeniedError(f"cannot unmount {point}: {error.strerror}") from error


def sweep(point: Path) -> bool:
    """Take away the mounts at `point` whose server is gone; True if there were any.

    Errors: `ExistsError` when a live mount of ours is there, `DeadlineError` when one does not answer.
    """
    swept = False
    while (mounted := mount_at(point)) is not None:
        is_ours = mounted.kind == KIND
        if is_ours and not is_dead(point):
            raise ExistsError(
                "mount at", str(point), advice=f"unmount it first: cvm umount {point}"
            )
        if not is_ours:
            break
        detach(point, lazily=True)
        log.warning("mount.swept", extra=fields(point=str(point), source=mounted.source))
        swept = True
    return swept


def is_dead(point: Path) -> bool:
    """Whether the server of the FUSE mount at `point` is gone ("Transport endpoint is not connected").

    Errors: `DeadlineError` when it is there but does not answer.
    """
    outcome: list[int] = []

    def probe() -> None:
        try:
            os.statvfs(point)  # which the kernel never answers from memory
        except OSError as error:
            outcome.append(error.errno or errno.EIO)
        else:
            outcome.append(0)

    thread = threading.Thread(target=probe, daemon=True, name="mount-probe")
    thread.start()
    thread.join(_PROBE_DEADLINE_S)
    if not outcome:
        raise DeadlineError(
            f"an answer from the mount at {point}",
            after_s=_PROBE_DEADLINE_S,
            advice=f"unmount it by force: cvm umount --force {point}",
        )
    return outcome[0] in (errno.ENOTCONN, errno.ECONNABORTED)


def _check_folder(point: Path) -> None:
    try:
        mode = point.stat().st_mode
    except FileNotFoundError:
        raise NotFoundError("folder", str(point), advice=f"make it: mkdir -p {point}") from None
    except OSError as error:
        raise DeniedError(f"{point}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise InvalidInputError(f"{point} is not a directory", advice="mount on a folder")


def _mount_by_kernel(point: Path, source: str) -> int:
    """mount(2). Errors: `PermissionError` when another way may work."""
    descriptor = _open_device()
    options = (
        f"fd={descriptor},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},"
        "default_permissions,allow_other"
    )
    try:
        linux.mount(source, point, KIND, flags=_FLAGS, options=options)
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EPERM:
            raise PermissionError(errno.EPERM, "mount(2) is not permitted") from None
        raise PrerequisiteError(
            f"the kernel refuses to mount at {point}: {error.strerror}",
            advice="see the last lines of dmesg",
        ) from error
    return descriptor


def _open_device() -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise DeniedError(
                f"you may not open {DEVICE}",
                advice=f"be root, or have the administrator run: chmod 666 {DEVICE}",
            ) from None
        raise PrerequisiteError(
            f"this machine has no usable {DEVICE}: {error.strerror}",
            advice="load the kernel's fuse module: modprobe fuse; in a container: --device /dev/fuse",
        ) from error


def _mount_by_helper(point: Path, source: str) -> int:
    options = (
        f"ro,nosuid,nodev,fsname={source},subtype={KIND.partition('.')[2]},default_permissions"
    )
    if _others_are_allowed():
        options += ",allow_other"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        finished = _run_helper(["-o", options, "--", str(point)], channel=theirs.fileno())
        theirs.close()
        ours.settimeout(_HELPER_DEADLINE_S)
        received: list[int] = []
        with suppress(OSError):
            _, received, _, _ = socket.recv_fds(ours, 4, 1)
    if not received:
        reason = finished.stderr.decode("utf-8", "replace").strip().removeprefix(f"{_HELPER}: ")
        raise DeniedError(
            f"{_HELPER} could not mount at {point}: {reason or 'it gave no reason'}",
            advice=f"own the mount point, and have access to {DEVICE}",
        )
    os.set_inheritable(received[0], False)
    return received[0]


def _unmount_by_helper(point: Path, *, lazily: bool) -> None:
    finished = _run_helper(["-u", *(["-z"] if lazily else []), "--", str(point)])
    if finished.returncode != 0:
        reason = finished.stderr.decode("utf-8", "replace").strip().removeprefix(f"{_HELPER}: ")
        if "busy" in reason:
            raise _busy(point)
        if "not found" in reason:
            raise NotFoundError("mount at", str(point))
        raise DeniedError(f"cannot unmount {point}: {reason or 'it gave no reason'}")


def _run_helper(
    arguments: list[str], *, channel: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    environment = dict(os.environ, LC_ALL="C")
    if channel is not None:
        environment["_FUSE_COMMFD"] = str(channel)
    try:
        return subprocess.run(
            [_HELPER, *arguments],
            env=environment,
            pass_fds=() if channel is None else (channel,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_HELPER_DEADLINE_S,
            check=False,
        )
    except FileNotFoundError:
        raise PrerequisiteError(
            f"you may not mount by yourself, and the program {_HELPER} is missing",
            advice="be root, or install it: apt-get install fuse3",
        ) from None
    except subprocess.TimeoutExpired:
        raise DeadlineError(_HELPER, after_s=_HELPER_DEADLINE_S) from None


def _others_are_allowed() -> bool:
    with suppress(OSError):
        lines = _FUSE_CONF.read_text("utf-8", "replace").splitlines()
        return any(line.strip() == "user_allow_other" for line in lines)
    return False


def _busy(point: Path) -> UnavailableError:
    return UnavailableError(
        f"{point} is in use",
        advice=f"end what uses it (fuser -vm {point} lists it), or: cvm umount --force {point}",
    )
