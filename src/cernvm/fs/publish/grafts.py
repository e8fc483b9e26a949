"""Grafts: files that are published by their digests, without their data.

A text file `.cvmfsgraft-NAME` beside an empty file NAME says which objects NAME consists of; they are put into the
store, or served from elsewhere, in another way.
Source: docs/formats/repository.md, "Grafts".
"""

from __future__ import annotations

from dataclasses import dataclass

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import CatalogFormatError, FormatError, InvalidInputError
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.entry import Chunk, check_chunks

GRAFT_PREFIX = b".cvmfsgraft-"
MAX_BYTES = 64 << 20
_MAX_SIZE = (1 << 63) - 1
_COMPRESSIONS = {
    b"default": Compression.ZLIB,
    b"zlib": Compression.ZLIB,
    b"none": Compression.NONE,
}


@dataclass(frozen=True, slots=True)
class Graft:
    """What a file consists of: one object, or chunks; `compression` None for the repository's own."""

    size: int
    digest: Digest
    chunks: tuple[Chunk, ...] = ()
    compression: Compression | None = None


def parse_graft(data: bytes, *, where: str) -> Graft:
    """The graft in a file; `InvalidInputError` naming what is missing or wrong."""
    values: dict[bytes, bytes] = {}
    for line in data.split(b"\n"):
        text = line.strip()
        if text and not text.startswith(b"#"):
            key, equals, value = text.partition(b"=")
            if not equals:
                raise _wrong(where, f"no key and value: {text[:80]!r}")
            values[key.strip()] = value.strip()
    try:
        size = _number(values[b"size"])
        digest = _digest(values[b"checksum"])
        chunks = _chunks(values, size, where)
        named = values.get(b"compression")
        compression = None if named is None else _COMPRESSIONS[named]
    except KeyError as exc:
        raise _wrong(where, f"{exc} is missing or unknown") from None
    except (ValueError, FormatError, CatalogFormatError) as exc:
        raise _wrong(where, str(exc)) from None
    return Graft(size, digest, chunks, compression)


def format_graft(graft: Graft) -> bytes:
    """The file that `parse_graft` reads."""
    lines = [f"size={graft.size}", f"checksum={graft.digest}"]
    if graft.chunks:
        lines.append("chunk_offsets=" + ",".join(str(chunk.offset) for chunk in graft.chunks))
        lines.append("chunk_checksums=" + ",".join(str(chunk.digest) for chunk in graft.chunks))
    if graft.compression is not None:
        lines.append(f"compression={graft.compression.name.lower()}")
    return "".join(line + "\n" for line in lines).encode()


def _chunks(values: dict[bytes, bytes], size: int, where: str) -> tuple[Chunk, ...]:
    listed = values.get(b"chunk_offsets", b""), values.get(b"chunk_checksums", b"")
    offsets, digests = ([one for one in text.split(b",") if one] for text in listed)
    if len(offsets) != len(digests):
        raise ValueError(f"{len(offsets)} offsets for {len(digests)} chunks")
    if not offsets:
        return ()
    starts = [_number(one) for one in offsets]
    ends = [*starts[1:], size]
    chunks = tuple(
        Chunk(start, end - start, _digest(digest))
        for start, end, digest in zip(starts, ends, digests, strict=True)
    )
    return check_chunks(chunks, size=size, where=where)


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19 or int(text) > _MAX_SIZE:
        raise ValueError(f"no number: {text[:40]!r}")
    return int(text)


def _digest(text: bytes) -> Digest:
    return parse_digest(text.decode("ascii", "replace"))


def _wrong(where: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{where}: {reason}", advice="make it with: cvm repo graft, or write size= and checksum="
    )
