"""Of which objects a file's content is made."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cernvm.core.errors import CatalogFormatError, PrerequisiteError
from cernvm.fs.cache import Content, ContentKey
from cernvm.fs.format.entry import Chunk, Entry, check_chunks
from cernvm.fs.format.objects import ObjectKind


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a file's content that is one object. Units: bytes of content."""

    offset: int
    size_bytes: int
    key: ContentKey
    kind: ObjectKind


def pieces_of(entry: Entry, chunks: Sequence[Chunk], *, where: str) -> tuple[Piece, ...]:
    """The pieces of a regular file, in order, covering it without a gap.

    Errors: `CatalogFormatError` when they do not; `PrerequisiteError` for content that is not in the repository.
    """
    if entry.is_external:
        raise PrerequisiteError(
            f"{where} lies outside of its repository",
            advice="this client does not fetch external data",
        )
    if entry.is_chunked:
        return tuple(
            Piece(
                chunk.offset,
                chunk.size,
                ContentKey(chunk.digest, entry.compression),
                ObjectKind.PARTIAL,
            )
            for chunk in check_chunks(tuple(chunks), size=entry.size, where=where)
        )
    if entry.digest is None:
        raise CatalogFormatError("a file has neither digest nor chunks", where=where)
    key = ContentKey(entry.digest, entry.compression)
    return (Piece(0, entry.size, key, ObjectKind.PLAIN),)


def read_pieces(
    pieces: Sequence[Piece],
    offset: int,
    size_bytes: int,
    get: Callable[[Piece], Content | None],
) -> bytes | None:
    """Content from `offset` on, at most `size_bytes`, fewer only at the end; None as soon as `get` has no answer."""
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
        content = get(piece)
        if content is None:
            return None
        parts.append(content.pread(begin, length))
    return parts[0] if len(parts) == 1 else b"".join(parts)
