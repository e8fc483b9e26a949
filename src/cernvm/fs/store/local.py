"""The object store in a folder, as any web server exports it.

A file is written below `data/txn`, then renamed, so that a reader or a crash never sees a part of it. Objects are not
synced one by one: `replace` makes the kernel write the whole file system back (syncfs reports a full or broken disk),
and only then may a root document name them. A marker says that some puts were not synced yet; found after the machine
went down, it makes `has` check digests, as files may have lost their content then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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

_LOCK = "publisher.lock"
_MARKER = "unsynced"  # holds the boot during which the puts were made
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_libc = ctypes.CDLL(None, use_errno=True)


class LocalStore:
    """An `ObjectStore` in `folder`, which is made when first written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()
        self._ready: set[str] = set()
        self._unsynced = threading.Event()
        self._check_digests = False
        self._root: int | None = (
            None  # open while the store is held: syncfs tells errors since then
        )

    def put(self, path: str, data: bytes) -> None:
        self._write(check_path(path), data, durable=False)
        self._unsynced.set()

    def replace(self, path: str, data: bytes) -> None:
        check_path(path)
        try:
            if self._unsynced.is_set():
                self._sync()
                self._unsynced.clear()
        except OSError as exc:
            raise translate(exc, self.folder) from exc
        self._write(path, data, durable=True)

    def get(self, path: str) -> bytes:
        try:
            return (self.folder / check_path(path)).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError("object", path) from None
        except OSError as exc:
            raise translate(exc, self.folder / path) from exc

    def has(self, path: str) -> bool:
        exists = (self.folder / check_path(path)).is_file()
        return exists and not (self._check_digests and self._is_damaged(path))

    def paths(self, prefix: str = "") -> Iterator[str]:
        for folder, folders, files in os.walk(self.folder):
            place = Path(folder).relative_to(self.folder)
            if str(place) == TEMPORARY:
                folders.clear()
                continue
            for file in files:
                path = file if str(place) == "." else f"{place}/{file}"
                if path.startswith(prefix):
                    yield path

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        workshop = self.folder / TEMPORARY
        busy = TransactionOpenError(
            f"another publisher is at work in {self.folder}",
            advice="wait until it has finished, then publish again",
        )
        with ExitStack() as stack:
            try:
                ensure_folder(workshop)
                stack.callback(os.close, take_lock(workshop / _LOCK, busy))
                self._root = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(self._let_go)
                self._begin(workshop)
            except OSError as exc:
                raise translate(exc, workshop) from exc
            yield
            if not self._unsynced.is_set():
                (workshop / _MARKER).unlink(missing_ok=True)

    def _begin(self, workshop: Path) -> None:
        """Sweep what a publisher that died left, and mark that this one may leave unsynced objects."""
        boot = _BOOT.read_bytes()
        marker = workshop / _MARKER
        self._check_digests = False
        if marker.exists():
            self._unsynced.set()  # what the dead publisher put is not durable yet either
            self._check_digests = marker.read_bytes() != boot
        for path in workshop.iterdir():
            if path.name not in (_LOCK, _MARKER):
                path.unlink(missing_ok=True)
        if not self._check_digests:
            write_atomically(marker, boot)
            sync_folder(workshop)

    def _let_go(self) -> None:
        if self._root is not None:
            os.close(self._root)
            self._root = None

    def _is_damaged(self, path: str) -> bool:
        """Whether an object lost its content when the machine went down; root documents are never in doubt."""
        try:
            digest, _ = parse_object_path(path)
        except FormatError:
            return False
        return digest.algorithm.digest((self.folder / path).read_bytes()) != digest

    def _write(self, path: str, data: bytes, *, durable: bool) -> None:
        final = self.folder / path
        number = f"{os.getpid()}-{threading.get_ident()}-{next(self._numbers)}"
        temporary = self.folder / TEMPORARY / number
        try:
            self._ensure(TEMPORARY)
            self._ensure(path.rpartition("/")[0])
            try:
                with temporary.open("wb", buffering=0) as file:
                    _write_all(file.fileno(), data)
                    if durable:
                        os.fsync(file.fileno())
                temporary.replace(final)
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
            if durable:
                sync_folder(final.parent)
        except OSError as exc:
            raise translate(exc, final) from exc

    def _ensure(self, folder: str) -> None:
        if folder not in self._ready:
            ensure_folder(self.folder / folder)
            self._ready.add(folder)

    def _sync(self) -> None:
        if self._root is None:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _syncfs(descriptor)
            finally:
                os.close(descriptor)
        else:
            _syncfs(self._root)


def _syncfs(descriptor: int) -> None:
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def translate(error: OSError, path: Path) -> CvmError:
    """What an error of the operating system on a place of the store means."""
    reason = f"{path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return SpaceError(reason, advice="free some space where the repository is stored")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DeniedError(reason, advice="publish as the owner of the repository's storage")
    return HostError(str(path), error.strerror or str(error))
