"""Copying files and trees out of a repository, many files at a time.

What is copied belongs to whoever copies. Times and links stay, set-user-id and the like do not. A file appears under
its name when it is whole. Nothing is ever written through a link that stands in the destination.
"""

from __future__ import annotations

import os
import secrets
import stat
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cernvm.core.errors import DeniedError, ExistsError, InvalidInputError, SpaceError
from cernvm.fs.api.files import Files
from cernvm.fs.vfs import Attributes

THREADS = 16
_MAX_WAITING = 4 * THREADS
_PART_BYTES = 4 << 20
_PERMISSIONS = 0o777


@dataclass(frozen=True, slots=True)
class Copied:
    """One name that was copied. Shape: `path` is the one in the repository."""

    path: bytes
    place: Path
    size_bytes: int


def copy_out(files: Files, path: bytes, place: Path, *, recursive: bool) -> Iterator[Copied]:
    """Copy what is at `path` to be `place`; gives each name once it is there.

    A directory needs `recursive`, and is merged into one that is there. Pipes, sockets and devices are left out.
    Errors: those of `Files`; `InvalidInputError`, `ExistsError`, `DeniedError`, `SpaceError` for the destination. What
    was copied before stays.
    """
    attributes = files.attributes(path)
    path = files.resolved(path)
    if not stat.S_ISDIR(attributes.mode):
        yield _copy_file(files, threading.Event(), path, attributes, place)
        return
    if not recursive:
        shown = path.decode("utf-8", "replace")
        raise InvalidInputError(f"{shown} is a directory", advice="copy it with --recursive")
    with ThreadPoolExecutor(THREADS, thread_name_prefix="copy") as pool:
        waiting: deque[Future[Copied]] = deque()
        folders: list[tuple[Path, Attributes]] = []
        is_over = threading.Event()
        try:
            for job in _walk(files, path, attributes, place, folders):
                if isinstance(job, Copied):
                    yield job
                    continue
                waiting.append(pool.submit(_copy_file, files, is_over, *job))
                while waiting and (waiting[0].done() or len(waiting) >= _MAX_WAITING):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
            for folder, whose in reversed(folders):
                _dress(folder, whose)
        finally:
            is_over.set()
            for future in waiting:
                future.cancel()


def _walk(
    files: Files,
    path: bytes,
    attributes: Attributes,
    place: Path,
    folders: list[tuple[Path, Attributes]],
) -> Iterator[Copied | tuple[bytes, Attributes, Path]]:
    """Make the directories and links; gives the files that are to be copied.

    `folders` takes the directories, which get their times when nothing is written into them any more.
    """
    waiting = [(path, attributes, place)]
    while waiting:
        folder, attributes, place = waiting.pop()
        _make_folder(place)
        folders.append((place, attributes))
        yield Copied(folder, place, 0)
        for listed in files.listing(folder):
            child = folder.rstrip(b"/") + b"/" + listed.name
            target = place / os.fsdecode(listed.name)
            mode = listed.attributes.mode
            if stat.S_ISDIR(mode):
                waiting.append((child, listed.attributes, target))
            elif stat.S_ISLNK(mode):
                _make_link(target, files.target(child), listed.attributes)
                yield Copied(child, target, 0)
            elif stat.S_ISREG(mode):
                yield child, listed.attributes, target


def _make_folder(place: Path) -> None:
    try:
        if place.is_symlink():
            raise ExistsError("link", str(place), advice="remove it, or copy to another place")
        place.mkdir(exist_ok=True)
    except FileExistsError:
        raise ExistsError("file", str(place), advice="remove it first") from None
    except OSError as error:
        raise _refused(place, error) from error


def _make_link(place: Path, target: bytes, attributes: Attributes) -> None:
    temporary = _temporary(place)
    try:
        temporary.symlink_to(os.fsdecode(target))
        os.utime(temporary, ns=(attributes.mtime_ns,) * 2, follow_symlinks=False)
        temporary.replace(place)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise _refused(place, error) from error


def _copy_file(
    files: Files, is_over: threading.Event, path: bytes, attributes: Attributes, place: Path
) -> Copied:
    temporary = _temporary(place)
    source = files.open(path)
    try:
        with temporary.open("xb") as output:
            offset = 0
            while data := source.read(offset, _PART_BYTES):
                if is_over.is_set():
                    raise CancelledError
                output.write(data)
                offset += len(data)
        _dress(temporary, attributes)
        temporary.replace(place)
    except OSError as error:
        raise _refused(place, error) from error
    finally:
        source.close()
        with suppress(OSError):
            temporary.unlink()
    return Copied(path, place, attributes.size_bytes)


def _dress(place: Path, attributes: Attributes) -> None:
    """Permissions as far as the umask lets them, and the time of change."""
    try:
        place.chmod(attributes.mode & _PERMISSIONS & ~_umask())
        os.utime(place, ns=(attributes.mtime_ns,) * 2)
    except OSError as error:
        raise _refused(place, error) from error


@cache
def _umask() -> int:
    """What the process began with; asking the system call for it would change it for all threads."""
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o077


def _temporary(place: Path) -> Path:
    return place.with_name(f".{secrets.token_hex(8)}.part")


def _refused(place: Path, error: OSError) -> DeniedError | SpaceError:
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return SpaceError(f"{place}: {error.strerror}", advice="free some space")
    return DeniedError(f"{place} cannot be written: {error.strerror}")
