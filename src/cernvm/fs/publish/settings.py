"""How a repository is published unless a publication says otherwise: the section `[settings]` of its record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cernvm.core.config import build, plain
from cernvm.core.errors import ConfigError, InvalidInputError
from cernvm.fs.format.chunker import ChunkSizes
from cernvm.fs.format.deflater import find_deflater

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "": 1}
_WHOLE_BYTES = (1 << 32) - 1
_DAY_S = 86_400
_MOST_TTL_S = (1 << 31) - 1
MOST_DAYS = 100_000  # any day can be counted back from
_NUMBER = re.compile(r"-?\d+\.?\d*(e\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a repository's publisher has chosen; every field has the default of the format's usual writer.

    Shape: `deflate` names the library that makes zlib streams, and its level; files whose names match one of the
    patterns `plain_names` are stored as they are; `chunk_*_bytes` where large files are cut, unless `chunking` is
    off; `most_entries` and `fewest_entries` of a catalog that is split by itself, unless `catalogs` is off; with
    `limits` a catalog or a file that is larger than some readers bear is an error; a hook may take
    `hook_deadline_s`; automatic tags older than `auto_tag_days` go, unless that is 0; with `auto_gc` garbage that
    `gc_keep_…` does not save is collected after a publication, once in `auto_gc_lapse_days`; with
    `virtual_snapshots` the hidden folder `/.cvmfs/snapshots` shows the revisions of all tags; `ttl_s`, `gc` and
    `volatile` are what the revision says to its readers, None as the last one did. `master_key` is where the master
    key is kept, if not beside the others: a path, `command:…` or `pkcs11:…`; with `alternative_paths` root catalog
    and certificate also lie beside the manifest.
    Units: as the names say. Errors: `InvalidInputError` for values that cannot be.
    """

    xattrs: bool = True
    mtime_ns: bool = True
    deflate: str = "auto"
    plain_names: str = ""
    chunking: bool = True
    chunk_least_bytes: int = 4 << 20
    chunk_mean_bytes: int = 8 << 20
    chunk_most_bytes: int = 16 << 20
    legacy_bulk_hash: bool = False
    external: bool = False
    limits: bool = False
    catalogs: bool = True
    most_entries: int = 100_000
    fewest_entries: int = 1_000
    automatic_tag: bool = True
    hook_deadline_s: float = 300.0
    auto_tag_days: float = 0.0
    auto_gc: bool = False
    auto_gc_lapse_days: float = 1.0
    gc_keep_days: float = 3.0
    gc_keep_revisions: int = 0
    virtual_snapshots: bool | None = None
    master_key: str = ""
    alternative_paths: bool | None = None
    ttl_s: int | None = None
    gc: bool | None = None
    volatile: bool | None = None

    def __post_init__(self) -> None:
        if self.ttl_s is not None and not 1 <= self.ttl_s <= _MOST_TTL_S:
            raise InvalidInputError(f"ttl_s must be between 1 and {_MOST_TTL_S}")
        for name in ("auto_tag_days", "auto_gc_lapse_days", "gc_keep_days", "gc_keep_revisions"):
            if not 0 <= getattr(self, name) <= MOST_DAYS:
                raise InvalidInputError(f"{name} must be between 0 and {MOST_DAYS}")
        if not 0 < self.hook_deadline_s <= _DAY_S:
            raise InvalidInputError(f"hook_deadline_s must be above 0, and at most {_DAY_S}")
        if not 1 <= self.fewest_entries <= self.most_entries:
            raise InvalidInputError("fewest_entries must be between 1 and most_entries")
        find_deflater(self.deflate)
        if "\\" in self.plain_names:
            raise InvalidInputError("plain_names are patterns of * and ? with spaces between")
        ChunkSizes(self.chunk_least_bytes, self.chunk_mean_bytes, self.chunk_most_bytes)

    @property
    def sizes(self) -> ChunkSizes:
        """Where large files are cut; without chunking, only where no object could hold them."""
        if not self.chunking:
            return ChunkSizes(_WHOLE_BYTES, _WHOLE_BYTES, _WHOLE_BYTES)
        return ChunkSizes(self.chunk_least_bytes, self.chunk_mean_bytes, self.chunk_most_bytes)


def with_settings(settings: Settings, chosen: Sequence[str]) -> Settings:
    """The settings with others of the form `KEY=VALUE`; an empty value is the default.

    Values are numbers, `true`, `false` or text; numbers may end in KiB, MiB or GiB.
    Errors: `InvalidInputError` for a key or value that cannot be.
    """
    values = plain(settings)
    for text in chosen:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidInputError(f"{text!r} is no setting", advice="write KEY=VALUE")
        values[key.strip()] = _parsed(value.strip())
        if not value.strip():
            del values[key.strip()]
    try:
        return build(values, Settings)
    except ConfigError as exc:
        raise InvalidInputError(str(exc), advice="look at: cvm repo settings NAME") from None


def _parsed(text: str) -> bool | float | str:
    if text in ("true", "false"):
        return text == "true"
    for suffix, factor in _UNITS.items():
        if text.endswith(suffix) and text.removesuffix(suffix).strip().isdecimal():
            return int(text.removesuffix(suffix)) * factor
    return float(text) if _NUMBER.fullmatch(text) else text
