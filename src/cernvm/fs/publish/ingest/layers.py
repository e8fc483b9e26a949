"""What an archive consists of, whatever its format: layers of members, all but an image's of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.ingest.conda import open_conda
from cernvm.fs.publish.ingest.member import Member
from cernvm.fs.publish.ingest.oci import Image, open_image
from cernvm.fs.publish.ingest.source import archive_from, archive_in, open_source
from cernvm.fs.publish.ingest.tar import TarReader
from cernvm.fs.publish.ingest.wheel import Wheel
from cernvm.fs.publish.ingest.zips import open_zip, read_zip
from cernvm.fs.publish.source import Found


class Format(Enum):
    """What an archive is; values are the words that users type."""

    AUTO = "auto"
    TAR = "tar"
    ZIP = "zip"
    WHEEL = "wheel"
    CONDA = "conda"
    OCI = "oci"


@dataclass(frozen=True, slots=True)
class Ingestion:
    """How an archive is taken in.

    Shape: `strip` path components are taken off a tar's or zip's members, which are left out if nothing is left of
    them; where `deletes`, what stands at the path and is not in the archive goes; where `is_nested`, it gets a catalog
    of its own; `python` is the version, as `X.Y`, whose folder modules go to, `interpreter` what runs their scripts: by
    default what the package was built for; `image` and `platform` choose one of several images; `prefix` is where
    clients will see the path, for packages that have to know it.
    """

    format: Format = Format.AUTO
    strip: int = 0
    deletes: bool = False
    is_nested: bool = False
    python: str = ""
    interpreter: str = ""
    image: str = ""
    platform: str = ""
    prefix: str = ""


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
    """An archive's layers, to be walked once, each before the next; the archive is what it was when the block ends.

    Errors: `InvalidInputError` for an archive of another format, or one that cannot come through a pipe.
    """
    kind = how.format if how.format is not Format.AUTO else _kind_of(archive)
    if kind is Format.TAR:
        with _open_tar(archive, how) as layers:
            yield layers
    elif isinstance(archive, Path):
        with _OPENERS[kind](archive, how) as layers:
            yield layers
    else:
        raise InvalidInputError(
            f"a {kind.value} cannot be read from a pipe", advice="give it as a file"
        )


def _kind_of(archive: Path | BinaryIO) -> Format:
    """By its name, or else by its first bytes."""
    if not isinstance(archive, Path):
        return Format.TAR
    if archive.is_dir():
        if not (archive / "oci-layout").is_file():
            raise InvalidInputError(
                f"{archive} is a folder, and no image layout",
                advice="publish it: cvm repo publish NAME FOLDER --at PATH",
            )
        return Format.OCI
    if archive.suffix == ".whl":
        return Format.WHEEL
    if archive.suffix == ".conda":
        return Format.CONDA
    with open_source(archive) as (_, descriptor):
        return Format.ZIP if os.pread(descriptor, 2, 0) == b"PK" else Format.TAR


@contextmanager
def _open_tar(archive: Path | BinaryIO, how: Ingestion) -> Iterator[Iterator[Layer]]:
    if isinstance(archive, Path):
        with open_source(archive) as (found, descriptor):
            source = archive_in(found, descriptor)
            members = TarReader(source, strip=how.strip).members()
            yield iter([Layer(members, source.found)])
    else:
        source = archive_from(archive, "the archive from standard input")
        yield iter([Layer(TarReader(source, strip=how.strip).members())])


@contextmanager
def _open_zip(archive: Path, how: Ingestion) -> Iterator[Iterator[Layer]]:
    with open_zip(archive) as opened:
        yield iter([Layer(read_zip(opened, strip=how.strip))])


@contextmanager
def _open_wheel(archive: Path, how: Ingestion) -> Iterator[Iterator[Layer]]:
    with open_zip(archive) as opened:
        wheel = Wheel(opened, python=how.python, interpreter=how.interpreter)
        yield iter([Layer(wheel.members())])


@contextmanager
def _open_conda(archive: Path, how: Ingestion) -> Iterator[Iterator[Layer]]:
    with open_conda(archive, how.prefix, python=how.python) as members:
        yield iter([Layer(members)])


@contextmanager
def _open_oci(archive: Path, how: Ingestion) -> Iterator[Iterator[Layer]]:
    with (
        open_image(archive, reference=how.image, wanted=how.platform) as image,
        closing(_layers_of(image)) as layers,
    ):
        yield layers


def _layers_of(image: Image) -> Generator[Layer, None, None]:
    for number, descriptor in enumerate(image.layers):
        with image.open_layer(descriptor) as (members, found):
            yield Layer(members, found, is_over=number > 0)
    yield Layer(iter([image.config()]), is_over=True)


_OPENERS: dict[Format, Callable[[Path, Ingestion], AbstractContextManager[Iterator[Layer]]]] = {
    Format.ZIP: _open_zip,
    Format.WHEEL: _open_wheel,
    Format.CONDA: _open_conda,
    Format.OCI: _open_oci,
}
