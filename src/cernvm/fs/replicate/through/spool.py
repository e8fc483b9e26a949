"""What comes from upstream on its way to whoever asked: small objects in memory, big ones in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from cernvm.core.digest import Digest
from cernvm.core.errors import DigestMismatchError, SpaceError
from cernvm.fs.store.parts import FileParts, MemoryParts, Parts
from cernvm.net import Sink

IN_MEMORY_BYTES = 4 << 20


class Spool(Sink[Parts]):
    """Takes an object, verified by its digest and by `accept`.

    Shape: `make_file` names a file for a big one, and `keep` may then take that away.
    Errors: `DigestMismatchError`; `SpaceError` where a big one has no room.
    """

    def __init__(
        self,
        digest: Digest,
        make_file: Callable[[], Path],
        *,
        accept: Callable[[Parts], None],
        keep: Callable[[Path], None],
    ) -> None:
        self._digest = digest
        self._hasher = digest.algorithm.hasher()
        self._make_file = make_file
        self._accept = accept
        self._keep = keep
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._place: Path | None = None
        self._file: BinaryIO | None = None

    def write(self, data: bytes, /) -> None:
        self._hasher.update(data)
        self._size_bytes += len(data)
        try:
            if self._file is None and self._size_bytes > IN_MEMORY_BYTES:
                self._place = self._make_file()
                self._file = self._place.open("x+b", buffering=0)
                self._file.write(b"".join(self._parts))
                self._parts.clear()
            if self._file is None:
                self._parts.append(bytes(data))
            else:
                self._file.write(data)
        except OSError as error:
            raise SpaceError(f"no room for {self._digest}: {error.strerror}") from error

    def finish(self) -> Parts:
        got = self._digest.algorithm.finish(self._hasher)
        if got != self._digest:
            raise DigestMismatchError(
                expected=str(self._digest), got=str(got), source=f"object {self._digest}"
            )
        if self._file is None or self._place is None:
            small = MemoryParts(b"".join(self._parts))
            self._accept(small)
            return small
        parts = FileParts.of(self._file)
        try:
            self._accept(parts)
        except BaseException:
            parts.close()
            raise
        self._keep(self._place)
        return parts

    def discard(self) -> None:
        self._parts.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._place is not None:
            self._place.unlink(missing_ok=True)
