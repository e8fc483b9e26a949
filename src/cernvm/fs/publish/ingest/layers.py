"""What an archive consists of, whatever its format: layers of members, all but an image's of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from cernvm.fs.publish.ingest.member import Member
from cernvm.fs.publish.ingest.source import archive_from, archive_in, open_source
from cernvm.fs.publish.ingest.tar import TarReader
from cernvm.fs.publish.source import Found


class Format(Enum):
    """What an archive is; values are the words that users type."""

    AUTO = "auto"
    TAR = "tar"


@dataclass(frozen=True, slots=True)
class Ingestion:
    """How an archive is taken in.

    Shape: `strip` path components are taken off a tar's or zip's members, which are left out if nothing is left of
    them; where `deletes`, what stands at the path and is not in the archive goes; where `is_nested`, it gets a catalog
    of its own.
    """

    format: Format = Format.AUTO
    strip: int = 0
    deletes: bool = False
    is_nested: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """Members that are unpacked over those of the layers before.

    Shape: `found` is the plain file that the members' offsets are in; `is_over` where there are layers before.
    """

    members: Iterator[Member]
    found: Found | None = None
    is_over: bool = False


@contextmanager
def open_layers(archive: Path | BinaryIO, how: Ingestion) -> Iterator[Iterator[Layer]]:
    """An archive's layers, to be walked once, each before the next; the archive is what it was when the block ends."""
    with _tar_layers(archive, how) as layers:
        yield layers


@contextmanager
def _tar_layers(archive: Path | BinaryIO, how: Ingestion) -> Iterator[Iterator[Layer]]:
    if isinstance(archive, Path):
        with open_source(archive) as (found, descriptor):
            source = archive_in(found, descriptor)
            members = TarReader(source, strip=how.strip).members()
            yield iter([Layer(members, source.found)])
    else:
        source = archive_from(archive, "the archive from standard input")
        yield iter([Layer(TarReader(source, strip=how.strip).members())])
