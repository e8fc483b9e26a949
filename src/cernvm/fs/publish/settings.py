"""How a repository is published unless a publication says otherwise: the section `[settings]` of its record."""

from __future__ import annotations

from dataclasses import dataclass

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.chunker import ChunkSizes
from cernvm.fs.format.manifest import DEFAULT_TTL_S

_WHOLE_BYTES = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What a repository's publisher has chosen; every field has the default of the format's usual writer.

    Shape: `ttl_s`, `gc` and `volatile` are what the revision says to its readers; `chunk_*_bytes` where large files
    are cut, unless `chunking` is off; `most_entries` and `fewest_entries` of a catalog that is split by itself;
    `limits` makes a publication fail where a catalog or a file grows past what readers are known to bear.
    Units: as the names say. Errors: `InvalidInputError` for values that cannot be.
    """

    xattrs: bool = True
    mtime_ns: bool = True
    chunking: bool = True
    chunk_least_bytes: int = 4 << 20
    chunk_mean_bytes: int = 8 << 20
    chunk_most_bytes: int = 16 << 20
    legacy_bulk_hash: bool = False
    external: bool = False
    catalogs: bool = True
    most_entries: int = 100_000
    fewest_entries: int = 1_000
    limits: bool = False
    automatic_tag: bool = True
    ttl_s: int = DEFAULT_TTL_S
    gc: bool = True
    volatile: bool = False

    def __post_init__(self) -> None:
        if self.ttl_s < 1:
            raise InvalidInputError("ttl_s must be at least 1")
        if not 1 <= self.fewest_entries <= self.most_entries:
            raise InvalidInputError("fewest_entries must be between 1 and most_entries")
        ChunkSizes(self.chunk_least_bytes, self.chunk_mean_bytes, self.chunk_most_bytes)

    @property
    def sizes(self) -> ChunkSizes:
        """Where large files are cut; without chunking, only where no object could hold them."""
        if not self.chunking:
            return ChunkSizes(_WHOLE_BYTES, _WHOLE_BYTES, _WHOLE_BYTES)
        return ChunkSizes(self.chunk_least_bytes, self.chunk_mean_bytes, self.chunk_most_bytes)
