"""Reading source files that others may write to, and cutting what is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cernvm.fs.format.chunker import ChunkSizes, CutFinder
from cernvm.fs.publish.content.jobs import Extent
from cernvm.fs.publish.source import changed, open_place, translate

BLOCK_BYTES = 256 << 10


@contextmanager
def opened(extent: Extent) -> Iterator[int]:
    """A source file, open for reading, that was the one found before and was not written to until the end."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = open_place(extent.place, flags)
    except OSError as exc:
        raise translate(exc, extent.place) from exc
    try:
        check_unchanged(extent, descriptor)
        yield descriptor
        check_unchanged(extent, descriptor)
    finally:
        os.close(descriptor)


def check_unchanged(extent: Extent, descriptor: int) -> None:
    """Refuse a file that was replaced or written to since it was found: its object would be a mixture."""
    status = os.fstat(descriptor)
    seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if seen != extent[1:5]:
        raise changed(extent.place)


def blocks(extent: Extent, descriptor: int) -> Iterator[bytes]:
    """The extent's content, never more of it, however fast its file grows."""
    position, left = extent.offset, extent.length
    try:
        while left > 0 and (block := os.pread(descriptor, min(BLOCK_BYTES, left), position)):
            position += len(block)
            left -= len(block)
            yield block
    except OSError as exc:
        raise translate(exc, extent.place) from exc
    if left:
        raise changed(extent.place)


def blocks_of(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """What a stream gives, until it gives nothing."""
    while block := read(BLOCK_BYTES):
        yield block


def cut(content: Iterator[bytes], sizes: ChunkSizes) -> Iterator[tuple[int, bytes, bool]]:
    """The pieces of content: offset, bytes, and whether it is the only one."""
    finder = CutFinder(sizes)
    piece = bytearray()
    position = 0  # of the piece
    for block in content:
        piece += block
        for mark in finder.feed(block):
            head = mark - position
            yield position, bytes(piece[:head]), False
            del piece[:head]
            position = mark
    yield position, bytes(piece), position == 0
