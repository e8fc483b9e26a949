"""What is made of content, and how: the values that a writer is given and gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

from cernvm.core.digest import Algorithm, Digest
from cernvm.fs.format.chunker import ChunkSizes
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.deflater import Deflater, find_deflater
from cernvm.fs.format.entry import Chunk


@dataclass(frozen=True, slots=True)
class Recipe:
    """How content becomes objects.

    Shape: external content is named and stored nowhere; `has_whole` stores a chunked file as one object as well, for
    readers of before chunks, while it is not larger than `MOST_WHOLE_BYTES`.
    """

    algorithm: Algorithm = Algorithm.SHA1
    compression: Compression = Compression.ZLIB
    deflater: Deflater = field(default_factory=find_deflater)
    sizes: ChunkSizes = field(default_factory=ChunkSizes)
    is_external: bool = False
    has_whole: bool = False


MOST_WHOLE_BYTES = 1 << 30  # it has to be in memory


@dataclass(frozen=True, slots=True)
class Content:
    """What a file became: one object, or chunks that join to `size` bytes, or both."""

    size: int
    digest: Digest | None
    chunks: tuple[Chunk, ...] = ()
