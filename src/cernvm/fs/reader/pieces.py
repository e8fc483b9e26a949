"""Of which objects a file's content is made."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cernvm.core.errors import CatalogFormatError, HostError
from cernvm.fs.cache import Content, ContentKey
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import Chunk, Entry, check_chunks
from cernvm.fs.format.objects import ObjectKind
from cernvm.net import url_path


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where content lies that is not among the repository's objects: below the hosts of external data.

    Shape: `path` is that of a URL; `byte_range` the first and the last byte wanted, None for all.
    """

    path: str
    byte_range: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a file's content that is one object. Units: bytes of content."""

    offset: int
    size_bytes: int
    key: ContentKey
    kind: ObjectKind
    elsewhere: Elsewhere | None = None


def pieces_of(entry: Entry, chunks: Sequence[Chunk], *, path: bytes) -> tuple[Piece, ...]:
    """The pieces of the regular file at `path`, in order, covering it without a gap.

    Errors: `CatalogFormatError` when they do not.
    """
    where = path.decode("utf-8", "replace")
    if entry.is_chunked:
        if entry.is_external and entry.compression is not Compression.NONE:
            raise CatalogFormatError("chunks of external data cannot be compressed", where=where)
        return tuple(
            Piece(
                chunk.offset,
                chunk.size,
                ContentKey(chunk.digest, entry.compression),
                ObjectKind.PARTIAL,
                _elsewhere(path, chunk) if entry.is_external else None,
            )
            for chunk in check_chunks(tuple(chunks), size=entry.size, where=where)
        )
    if entry.digest is None:
        raise CatalogFormatError("a file has neither digest nor chunks", where=where)
    key = ContentKey(entry.digest, entry.compression)
    elsewhere = Elsewhere(url_path(path)) if entry.is_external else None
    return (Piece(0, entry.size, key, ObjectKind.PLAIN, elsewhere),)


def _elsewhere(path: bytes, chunk: Chunk) -> Elsewhere:
    return Elsewhere(url_path(path), (chunk.offset, chunk.offset + chunk.size - 1))


def read_pieces(
    pieces: Sequence[Piece],
    offset: int,
    size_bytes: int,
    get: Callable[[Piece], Content | None],
    damaged: Callable[[Piece], None],
) -> bytes | None:
    """Content from `offset` on, at most `size_bytes`, fewer only at the end; None as soon as `get` has no answer.

    `damaged` is told of content that was cut short under its readers, and then `get` is asked once more.
    Errors: `HostError` when that is cut short too.
    """
    parts: list[bytes] = []
    end = offset + size_bytes
    place = bisect.bisect_right(pieces, offset, key=lambda piece: piece.offset) - 1
    for piece in pieces[max(place, 0) :]:
        if piece.offset >= end:
            break
        begin = max(offset - piece.offset, 0)
        length = min(end - piece.offset, piece.size_bytes) - begin
        if length <= 0:
            continue
        part = _read(piece, begin, length, get)
        if part is not None and len(part) < length:
            damaged(piece)
            part = _read(piece, begin, length, get)
        if part is None:
            return None
        if len(part) < length:
            raise HostError(f"the cached {piece.key.digest}", "it was cut short")
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read(
    piece: Piece, begin: int, length: int, get: Callable[[Piece], Content | None]
) -> bytes | None:
    content = get(piece)
    return None if content is None else content.pread(begin, length)
