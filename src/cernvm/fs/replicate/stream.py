"""One revision, or the difference of two, as a file: its bytes, between values and a file that is read once.

Source: docs/formats/replica.md, "Streams".
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from cernvm.core.digest import DIGEST_BYTES, Algorithm, Digest, parse_digest
from cernvm.core.errors import DigestMismatchError, FormatError, ObjectFormatError
from cernvm.core.home import check_repository_name
from cernvm.fs.format.letter import MAX_LETTER_BYTES
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH, ObjectKind, object_path

MAGIC = b"CVMSTREAM1\n"
MAX_OBJECT_BYTES = 1 << 32
_MAX_HEADER_BYTES = 1 << 20
_OBJECT, _DOCUMENT, _END = b"O", b"D", b"E"
_OBJECT_HEAD = struct.Struct("<20sBBQ")  # digest, algorithm, letter, bytes
_DOCUMENT_HEAD = struct.Struct("<BI")  # bytes of the name, bytes
_DOCUMENTS = frozenset({WHITELIST_PATH, MANIFEST_PATH})
_SUM_BYTES = 32
_BLOCK_BYTES = 1 << 20
_LETTERS = {(ord(kind.value) if kind.value else 0): kind for kind in ObjectKind}
_NUMBERS = {kind: number for number, kind in _LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Header:
    """What a stream brings.

    Shape: `roots` are the root catalogs of its revisions, that of the manifest first; `base` is the root catalog whose
    whole tree the receiver must have, None for a full stream.
    """

    name: str
    revision: int
    roots: tuple[Digest, ...]
    base: Digest | None = None
    base_revision: int = 0


@dataclass(frozen=True, slots=True)
class StreamedObject:
    """An object as it is stored; it has its digest."""

    digest: Digest
    kind: ObjectKind
    stored: bytes


@dataclass(frozen=True, slots=True)
class StreamedDocument:
    """Whitelist or manifest."""

    path: str
    data: bytes


class StreamWriter:
    """Writes a stream; `close` ends it. Shape: `written_bytes` so far."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        self.written_bytes = 0
        self._write(MAGIC)
        self._write(_format_header(header))

    def add_object(self, digest: Digest, kind: ObjectKind, stored: bytes) -> None:
        """Add an object; those of a catalog, and the catalogs below it, come before the catalog."""
        head = _OBJECT_HEAD.pack(digest.raw, digest.algorithm.flag, _NUMBERS[kind], len(stored))
        self._write(_OBJECT + head)
        self._write(stored)

    def add_document(self, path: str, data: bytes) -> None:
        """Add whitelist or manifest, after all objects."""
        name = path.encode("ascii")
        self._write(_DOCUMENT + _DOCUMENT_HEAD.pack(len(name), len(data)) + name)
        self._write(data)

    def close(self) -> None:
        """Write the sum of all that came before; the file stays open."""
        total = self._sum.digest()
        self._write(_END + total)
        self._file.flush()

    def _write(self, data: bytes) -> None:
        self._sum.update(data)
        self._file.write(data)
        self.written_bytes += len(data)


class StreamReader:
    """Reads a stream once, from front to back; nothing of it is believed.

    Errors: `FormatError` for what is no stream or is cut off, `DigestMismatchError` for objects and sums that are
    wrong.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        if self._take(len(MAGIC)) != MAGIC:
            raise _wrong("it does not begin as one")
        self.header = _parse_header(self._take_line())

    def records(self) -> Iterator[StreamedObject | StreamedDocument]:
        """Objects, then documents; when the iterator ends, the sum was right and nothing follows."""
        had_document = False
        while True:
            total = self._sum.digest()
            kind = self._take(1)
            if kind == _END:
                self._finish(total)
                return
            if kind == _DOCUMENT:
                had_document = True
                yield self._document()
            elif kind == _OBJECT and not had_document:
                yield self._object()
            else:
                raise _wrong(f"a record begins with {kind!r}")

    def _object(self) -> StreamedObject:
        raw, algorithm, letter, size_bytes = _OBJECT_HEAD.unpack(self._take(_OBJECT_HEAD.size))
        if letter not in _LETTERS or size_bytes > MAX_OBJECT_BYTES:
            raise _wrong("an object's head is damaged")
        digest = Digest(Algorithm.from_flag(algorithm), raw)
        stored = self._take(size_bytes)
        got = digest.algorithm.digest(stored)
        kind = _LETTERS[letter]
        if got != digest:
            raise DigestMismatchError(
                expected=str(digest), got=str(got), source=f"object {object_path(digest, kind)}"
            )
        return StreamedObject(digest, kind, stored)

    def _document(self) -> StreamedDocument:
        name_bytes, size_bytes = _DOCUMENT_HEAD.unpack(self._take(_DOCUMENT_HEAD.size))
        path = self._take(name_bytes).decode("ascii", "replace")
        if path not in _DOCUMENTS or size_bytes > MAX_LETTER_BYTES:
            raise _wrong(f"it brings {path[:80]!r}")
        return StreamedDocument(path, self._take(size_bytes))

    def _finish(self, total: bytes) -> None:
        said = self._take(_SUM_BYTES)
        if said != total:
            raise DigestMismatchError(expected=said.hex(), got=total.hex(), source="the stream")
        if self._file.read(1):
            raise _wrong("bytes follow its end")

    def _take_line(self) -> bytes:
        line = self._file.readline(_MAX_HEADER_BYTES)
        if not line.endswith(b"\n"):
            raise _wrong("its header has no end")
        self._sum.update(line)
        return line

    def _take(self, size_bytes: int) -> bytes:
        """The next bytes, as many as are asked for; a size that lies takes no more memory than the file has bytes."""
        parts = []
        left = size_bytes
        while left:
            part = self._file.read(min(left, _BLOCK_BYTES))
            if not part:
                raise _wrong("it is cut off")
            self._sum.update(part)
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _format_header(header: Header) -> bytes:
    document = {
        "name": header.name,
        "revision": header.revision,
        "roots": [str(root) for root in header.roots],
        "base": None if header.base is None else str(header.base),
        "base_revision": header.base_revision,
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def _parse_header(line: bytes) -> Header:
    try:
        document: Any = json.loads(line)
        roots = tuple(parse_digest(str(text)) for text in document["roots"])
        base = document["base"]
        header = Header(
            name=check_repository_name(str(document["name"])),
            revision=int(document["revision"]),
            roots=roots,
            base=None if base is None else parse_digest(str(base)),
            base_revision=int(document["base_revision"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _wrong("its header cannot be read") from None
    except FormatError as error:
        raise _wrong(f"its header cannot be read: {error}") from None
    if not roots:
        raise _wrong("it names no revision")
    return header


def _wrong(reason: str) -> ObjectFormatError:
    return ObjectFormatError(
        reason, where="stream", advice="have it exported and transferred again"
    )


assert DIGEST_BYTES == 20, "as in _OBJECT_HEAD"
