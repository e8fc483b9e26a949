"""The object store in a folder, as any web server exports it.

An object is written to a file that has no name, which is then linked to its place; where that cannot be, and for root
documents, a file below `data/txn` is written, then renamed. So a reader or a crash never sees a part of it. Objects
are not synced one by one: `replace` makes the kernel write the whole file system back (syncfs reports a full or broken
disk; 0.2 ms where nothing is to be written), and only then may a root document name them. A file tells by its time of
change when that was done last, and in which boot of the machine; in another boot, younger objects that have lost their
content are deleted before anything is published. A file below `data/txn` is locked while it is being written.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from cernvm.core.errors import (
    CvmError,
    DeniedError,
    FormatError,
    HostError,
    NotFoundError,
    SpaceError,
    TransactionOpenError,
)
from cernvm.core.home import ensure_folder, sync_folder, write_atomically
from cernvm.core.lock import take_lock
from cernvm.fs.format.objects import parse_object_path
from cernvm.fs.store.names import TEMPORARY, check_path
from cernvm.fs.store.port import ObjectStatus

_LOCK = "publisher.lock"
_SYNCED = "synced"  # its content is the boot, its time of change that of the last sync
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_POLL_S = 0.1
_FRESH_S = 60.0  # a file of the workshop may not be locked yet
_CLOCK_STEP_S = 3600.0  # how far back the clock may have been set between a marker and an object
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_libc = ctypes.CDLL(None, use_errno=True)


class LocalStore:
    """An `ObjectStore` in `folder`, which is made when first written to."""

    lanes = 2

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.location = str(folder)
        self._name = secrets.token_hex(4)
        self._numbers = count()
        self._ready: set[str] = set()
        self._can_link = True  # as far as is known
        # open while the store is held: syncfs tells errors since then
        self._root: int | None = None

    def put(self, path: str, data: bytes) -> None:
        self._write(check_path(path), data, durable=False)

    def replace(self, path: str, data: bytes) -> None:
        check_path(path)
        try:
            self._sync()  # whatever was put since, by other processes too
        except OSError as exc:
            raise translate(exc, self.folder) from exc
        self._write(path, data, durable=True)

    def get(self, path: str) -> bytes:
        try:
            return _read_file(f"{self.location}/{check_path(path)}")
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError("object", path) from None
        except OSError as exc:
            raise translate(exc, self.folder / path) from exc

    def has(self, path: str) -> bool:
        # asked for every object: a `Path` costs more than the answer
        return os.path.isfile(f"{self.location}/{check_path(path)}")  # noqa: PTH113

    def status(self, path: str) -> ObjectStatus | None:
        try:
            found = (self.folder / check_path(path)).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise translate(exc, self.folder / path) from exc
        return _status(found) if stat.S_ISREG(found.st_mode) else None

    def delete(self, *paths: str) -> None:
        for path in map(check_path, paths):
            try:
                (self.folder / path).unlink()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as exc:
                raise translate(exc, self.folder / path) from exc

    def paths(self, prefix: str = "") -> Iterator[str]:
        return (path for path, _ in self._walk(prefix))

    def listing(self, prefix: str = "") -> Iterator[tuple[str, ObjectStatus]]:
        for path, entry in self._walk(prefix):
            with suppress(FileNotFoundError):  # deleted meanwhile
                yield path, _status(entry.stat(follow_symlinks=False))

    @contextmanager
    def exclusive(self, wait_s: float = 0.0) -> Iterator[None]:
        workshop = self.folder / TEMPORARY
        with ExitStack() as stack:
            try:
                self._ensure_workshop()
                stack.callback(os.close, self._lock(workshop / _LOCK, wait_s))
                self._root = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(self._let_go)
                self._begin(workshop)
            except OSError as exc:
                raise translate(exc, workshop) from exc
            yield
            with suppress(OSError):  # then younger objects are in doubt for longer
                self._sync()

    def _lock(self, path: Path, wait_s: float) -> int:
        busy = TransactionOpenError(
            f"another publisher is at work in {self.folder}",
            advice="wait until it has finished, then publish again",
        )
        until = time.monotonic() + wait_s
        while True:
            try:
                return take_lock(path, busy)
            except TransactionOpenError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_POLL_S)

    def _begin(self, workshop: Path) -> None:
        """Sweep what died with its writer."""
        self._ensure_workshop()
        synced = workshop / _SYNCED
        if synced.read_bytes() != _BOOT.read_bytes():
            self._drop_damaged(synced.stat().st_mtime - _CLOCK_STEP_S)
            self._sync()
            write_atomically(synced, _BOOT.read_bytes())
        for path in workshop.iterdir():
            if path.name not in (_LOCK, _SYNCED) and not _is_being_written(path):
                path.unlink(missing_ok=True)

    def _drop_damaged(self, since: float) -> None:
        """Delete objects that lost their content when the machine went down; no root document names them."""
        for path, entry in self._walk("data/"):
            if entry.stat(follow_symlinks=False).st_mtime >= since and self._is_damaged(path):
                self.delete(path)

    def _walk(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """The files whose path begins with `prefix`; folders that cannot hold one are not looked into."""
        above, _, _ = prefix.rpartition("/")
        if above.startswith(("/", TEMPORARY)) or ".." in above.split("/"):
            return
        folders = [above]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self.folder / folder) as entries:
                    found = list(entries)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as exc:
                raise translate(exc, self.folder / folder) from exc
            for entry in found:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if path.startswith(prefix) and path != TEMPORARY:
                        folders.append(path)
                elif path.startswith(prefix) and entry.is_file(follow_symlinks=False):
                    yield path, entry

    def _let_go(self) -> None:
        if self._root is not None:
            os.close(self._root)
            self._root = None

    def _is_damaged(self, path: str) -> bool:
        try:
            digest, _ = parse_object_path(path)
        except FormatError:
            return False
        return digest.algorithm.digest((self.folder / path).read_bytes()) != digest

    def _write(self, path: str, data: bytes, *, durable: bool) -> None:
        try:
            self._ensure_workshop()
            self._ensure(path.rpartition("/")[0])
            if not durable and self._can_link and self._link(f"{self.location}/{path}", data):
                return
            number = f"{self._name}-{os.getpid()}-{threading.get_ident()}-{next(self._numbers)}"
            final = self.folder / path
            _write_file(self.folder / TEMPORARY / number, final, data, durable=durable)
            if durable:
                sync_folder(final.parent)
        except OSError as exc:
            raise translate(exc, self.folder / path) from exc

    def _link(self, final: str, data: bytes) -> bool:
        """Whether an object got its place by a link: not where there is one, nor in file systems without such files."""
        try:
            _link_file(final, data)
        except FileExistsError:
            return False
        except OSError as exc:
            if exc.errno in _FULL:
                raise
            self._can_link = False
            return False
        return True

    def _ensure_workshop(self) -> None:
        if TEMPORARY in self._ready:
            return
        ensure_folder(self.folder)
        workshop = ensure_folder(self.folder / TEMPORARY)
        if not (workshop / _SYNCED).exists():
            write_atomically(workshop / _SYNCED, _BOOT.read_bytes())
            sync_folder(workshop)
        self._ready.add(TEMPORARY)

    def _ensure(self, folder: str) -> None:
        if folder not in self._ready:
            ensure_folder(self.folder / folder)
            self._ready.add(folder)

    def _sync(self) -> None:
        self._ensure_workshop()
        began_ns = time.time_ns()
        if self._root is None:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _syncfs(descriptor)
            finally:
                os.close(descriptor)
        else:
            _syncfs(self._root)
        os.utime(self.folder / TEMPORARY / _SYNCED, ns=(began_ns, began_ns))


def _is_being_written(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime < _FRESH_S:
                return True
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _syncfs(descriptor: int) -> None:
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _status(found: os.stat_result) -> ObjectStatus:
    return ObjectStatus(found.st_size, datetime.fromtimestamp(found.st_mtime_ns / 1e9, UTC))


def _read_file(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size + 1)
        while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
            data += more  # one call gives 2 GB at most
    finally:
        os.close(descriptor)
    return data


def _link_file(final: str, data: bytes) -> None:
    folder = final.rpartition("/")[0]
    descriptor = os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o666)
    try:
        _write_all(descriptor, data)
        # with a folder that does not matter, os.link follows the way to the file, as without one it would not
        os.link(f"/proc/self/fd/{descriptor}", final, src_dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _write_file(temporary: Path, final: Path, data: bytes, *, durable: bool) -> None:
    try:
        with temporary.open("wb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            _write_all(file.fileno(), data)
            if durable:
                os.fsync(file.fileno())
            temporary.replace(final)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def translate(error: OSError, path: Path) -> CvmError:
    """What an error of the operating system on a place of the store means."""
    reason = f"{path}: {error.strerror or error}"
    if error.errno in _FULL:
        return SpaceError(reason, advice="free some space where the repository is stored")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DeniedError(reason, advice="publish as the owner of the repository's storage")
    return HostError(str(path), error.strerror or str(error))
