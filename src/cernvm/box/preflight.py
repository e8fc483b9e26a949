"""What this machine must have before the main job starts; each lack is one sentence with what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from cernvm.box.namespace import in_user_namespace
from cernvm.box.release.tools import need_program
from cernvm.core import linux
from cernvm.core.errors import ConflictError, DeniedError, PrerequisiteError, SpaceError
from cernvm.core.home import Home, ensure_folder
from cernvm.core.process import Record, read_record, record_process
from cernvm.core.units import format_bytes

FIRST_RUN_BYTES = (
    2_500_000_000  # both trees, their objects, the cache, what apt and pip need on the way
)
LATER_RUN_BYTES = 300_000_000
SERVICES = ("repo", "site", "bus", "storage", "agent-jobs")
RECORD = "demo.json"

_PACKAGES = ("anyio", "boto3", "jinja2", "slixmpp", "sqlalchemy", "starlette", "uvicorn")
_BUILD_PROGRAMS = {"mmdebstrap": "mmdebstrap", "apt-get": "apt", "dpkg": "dpkg"}
_NEW_NAMESPACES = {
    linux.CLONE_NEWNS: "mount",
    linux.CLONE_NEWPID: "process",
    linux.CLONE_NEWUTS: "host name",
    linux.CLONE_NEWIPC: "IPC",
    linux.CLONE_NEWNET: "network",
}


def check_device() -> None:
    """Errors: `PrerequisiteError` when /dev/fuse cannot be opened."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise PrerequisiteError(
            "this machine has no /dev/fuse, through which repositories are mounted",
            advice="load the fuse kernel module, or give the container that device",
        ) from None
    except OSError as error:
        raise PrerequisiteError(
            f"/dev/fuse, through which repositories are mounted, cannot be opened: {error.strerror}",
            advice="run as root, or ask an administrator to allow /dev/fuse to all accounts",
        ) from None


def check_packages() -> None:
    """Errors: `PrerequisiteError` when the base install lacks the parts that the box needs."""
    absent = [name for name in _PACKAGES if find_spec(name) is None]
    if absent:
        raise PrerequisiteError(
            f"these Python packages are missing: {', '.join(absent)}",
            advice="install the extra: pip install 'cernvm[box]'",
        )


def check_programs(*, building: bool) -> None:
    """Errors: `PrerequisiteError` naming a missing program and the Debian package that brings it."""
    need_program("prosody", package="prosody")
    for program, package in _BUILD_PROGRAMS.items() if building else ():
        need_program(program, package=package)


def check_space(home: Home, *, building: bool) -> None:
    """Errors: `SpaceError` when the disk under the data folder has too little room for this run."""
    needed = FIRST_RUN_BYTES if building else LATER_RUN_BYTES
    free = shutil.disk_usage(_existing(home.path)).free
    if free < needed:
        raise SpaceError(
            f"{home.path}: {format_bytes(free)} are free, about {format_bytes(needed)} are needed",
            advice="free some space, or set CVM_HOME to a folder on another disk",
        )


def check_containers(home: Home) -> None:
    """Errors: `PrerequisiteError` when namespaces, or overlays on the data folder, are not to be had.

    Both are tried in a child, so that nothing of it stays. Concurrency: only from a process with one thread.
    """
    with tempfile.TemporaryDirectory(dir=ensure_folder(home.path), prefix=".overlay-") as folder:
        complaint = _complaint_of_child(Path(folder))
    if complaint:
        raise PrerequisiteError(
            complaint, advice="run on the machine itself, not inside a container"
        )


def check_others(home: Home) -> None:
    """Errors: `ConflictError` while services that the demo did not start use the same data folder."""
    for service in SERVICES:
        record = read_record(home.run / f"{service}.json")
        if record and record.is_alive:
            raise ConflictError(
                f"{record.what} (process {record.pid}) uses {home.path}",
                advice=f"end it first (kill {record.pid}), or set CVM_HOME to another folder",
            )


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold the data folder for one demo; the record names this process while it does.

    Errors: `ConflictError` when another demo holds it.
    """
    ensure_folder(home.run)
    with (home.run / "demo.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            record = read_record(home.run / RECORD)
            who = f" (process {record.pid})" if record else ""
            raise ConflictError(
                f"another demo{who} runs in {home.path}",
                advice="wait for it, end it with cvm demo --clean, or set CVM_HOME to another folder",
            ) from None
        record_process(home.run / RECORD, "cvm demo")
        try:
            yield
        finally:
            (home.run / RECORD).unlink(missing_ok=True)


def running_demo(home: Home) -> Record | None:
    """The demo that holds the data folder now, if one does."""
    record = read_record(home.run / RECORD)
    return record if record and record.is_alive else None


def _complaint_of_child(folder: Path) -> str:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            os.write(write_end, _try_containers(folder).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        complaint = answer.read().decode()
    os.waitpid(child, 0)
    return complaint


def _try_containers(folder: Path) -> str:
    """One sentence on what fails; empty when all is well."""
    for kind, name in _NEW_NAMESPACES.items():
        try:
            linux.unshare(kind)
        except OSError as error:
            return f"this machine lets you make no {name} namespace: {error.strerror}"
    try:
        linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
        for name in ("lower", "upper", "work", "root"):
            (folder / name).mkdir()
        layers = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        own = ",userxattr" if in_user_namespace() else ""
        linux.mount("overlay", folder / "root", "overlay", options=layers + own)
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or errno.EIO)
        return f"the disk of {folder.parent} cannot carry an overlay file system: {reason}"
    return ""


def _existing(path: Path) -> Path:
    """The nearest folder above that exists."""
    while not path.exists():
        path = path.parent
    if not path.is_dir():
        raise DeniedError(f"{path} is no folder", advice="set CVM_HOME to another folder")
    return path
