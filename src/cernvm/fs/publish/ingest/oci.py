"""An image in the OCI layout, as a folder or a plain tar of one: its layers one over the other, then its configuration.

Every blob is compared with its digest before anything of it is used. The configuration becomes `.oci-config.json`.
Source: the OCI image specification 1.1, "Image Layout", "Image Index", "Image Manifest", "Filesystem Changeset".
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cernvm.core.errors import DigestMismatchError, InvalidInputError, NotFoundError
from cernvm.fs.publish.ingest.member import Member, made_file, wrong_member
from cernvm.fs.publish.ingest.source import FileArchive, archive_in, open_source
from cernvm.fs.publish.ingest.tar import TarReader
from cernvm.fs.publish.source import Found

CONFIG_NAME = ".oci-config.json"
_WHITEOUT, _OPAQUE, _OLD = b".wh.", b".wh..wh..opq", b".wh..wh."
_MOST_JSON_BYTES = 16 << 20
_MOST_INDEXES = 8
_REFERENCE = "org.opencontainers.image.ref.name"
_DIGEST = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
_BLOCK_BYTES = 1 << 20
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where a blob lies. Units: bytes of the open file `descriptor`."""

    found: Found
    descriptor: int
    start: int
    end: int


class Blobs(Protocol):
    """The files of a layout, by their paths in it."""

    def open(self, path: str) -> Any:
        """A context manager that gives a `Stretch`; `NotFoundError` where there is no such file."""


class FolderBlobs:
    """A layout in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def open(self, path: str) -> Iterator[Stretch]:
        with open_source(self._folder / path) as (found, descriptor):
            yield Stretch(found, descriptor, 0, found.status.st_size)


class TarBlobs:
    """A layout in a tar that is not compressed."""

    def __init__(self, found: Found, descriptor: int) -> None:
        self._found = found
        self._descriptor = descriptor
        self._files: dict[str, tuple[int, int]] = {}
        archive = FileArchive(found, descriptor, 0, found.status.st_size)
        for member in TarReader(archive).members():
            if stat.S_ISREG(member.mode) and member.data.offset is not None:
                place = (member.data.offset, member.data.offset + member.data.size)
                self._files[os.fsdecode(member.path[1:])] = place

    @contextmanager
    def open(self, path: str) -> Iterator[Stretch]:
        if path not in self._files:
            raise NotFoundError("file of the image", path)
        yield Stretch(self._found, self._descriptor, *self._files[path])


class Image:
    """One image of a layout. Shape: `reference` is the name it has there, `wanted` its platform, `OS/ARCHITECTURE`."""

    def __init__(self, blobs: Blobs, *, reference: str = "", wanted: str = "") -> None:
        self._blobs = blobs
        machine = platform.machine()
        self._wanted = wanted or f"linux/{_MACHINES.get(machine, machine)}"
        with blobs.open("oci-layout") as stretch:
            layout = _parse(_read(stretch), "oci-layout")
        if not str(layout.get("imageLayoutVersion", "")).startswith("1."):
            raise InvalidInputError("the image's layout is of a version that is not known")
        with blobs.open("index.json") as stretch:
            index = _parse(_read(stretch), "index.json")
        self._manifest = self._choose(index, reference)

    @property
    def layers(self) -> list[Mapping[str, Any]]:
        """Descriptors of the layers, the lowest first."""
        return _descriptors(self._manifest, "layers")

    @contextmanager
    def open_layer(
        self, descriptor: Mapping[str, Any]
    ) -> Iterator[tuple[Iterator[Member], Found | None]]:
        """A layer's members, and the plain file that their offsets are in."""
        if "encrypted" in str(descriptor.get("mediaType", "")):
            raise InvalidInputError(f"the image's layer {descriptor['digest']} is encrypted")
        with self._opened(descriptor) as stretch:
            archive = archive_in(stretch.found, stretch.descriptor, stretch.start, stretch.end)
            yield _with_whiteouts(TarReader(archive).members()), archive.found

    def config(self) -> Member:
        """The configuration, as a file."""
        data = self._json_bytes(self._manifest.get("config"))
        return made_file(CONFIG_NAME, data)

    def _choose(self, index: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
        """The manifest of the image that is meant."""
        for _ in range(_MOST_INDEXES):
            found = _descriptors(index, "manifests")
            if reference:
                found = [one for one in found if _reference_of(one) == reference]
                reference = ""
            if len(found) > 1:
                found = [one for one in found if _platform_of(one) == self._wanted] or found
            if len(found) != 1:
                known = sorted(
                    {f"{_reference_of(o) or '-'} ({_platform_of(o) or '-'})" for o in found}
                )
                raise InvalidInputError(
                    f"the layout holds {len(found)} images that could be meant: {', '.join(known)}",
                    advice="choose one: --image NAME, --platform OS/ARCHITECTURE",
                )
            chosen = _parse(self._json_bytes(found[0]), found[0]["digest"])
            if "layers" in chosen:
                return chosen
            index = chosen
        raise InvalidInputError("the image's indexes name each other without an end")

    def _json_bytes(self, descriptor: Any) -> bytes:
        with self._opened(_checked(descriptor)) as stretch:
            return _read(stretch)

    @contextmanager
    def _opened(self, descriptor: Mapping[str, Any]) -> Iterator[Stretch]:
        """A blob that has the size and digest that its descriptor says."""
        algorithm, _, digest = descriptor["digest"].partition(":")
        with self._blobs.open(f"blobs/{algorithm}/{digest}") as stretch:
            hasher = hashlib.new(algorithm)
            if stretch.end - stretch.start == descriptor["size"]:
                archive = FileArchive(stretch.found, stretch.descriptor, stretch.start, stretch.end)
                while block := archive.read(_BLOCK_BYTES):
                    hasher.update(block)
            if hasher.hexdigest() != digest:
                raise DigestMismatchError(
                    expected=digest, got=hasher.hexdigest(), source="the image's blob"
                )
            yield stretch


@contextmanager
def open_image(path: Path, *, reference: str = "", wanted: str = "") -> Iterator[Image]:
    """The image in a layout; `NotFoundError`, `InvalidInputError` and `DigestMismatchError` where there is none."""
    if path.is_dir():
        yield Image(FolderBlobs(path), reference=reference, wanted=wanted)
        return
    with open_source(path) as (found, descriptor):
        yield Image(TarBlobs(found, descriptor), reference=reference, wanted=wanted)


def _with_whiteouts(members: Iterator[Member]) -> Iterator[Member]:
    """Members of a layer, those that stand for what is gone as what they mean."""
    for member in members:
        folder, _, name = member.path.rpartition(b"/")
        if not name.startswith(_WHITEOUT):
            yield member
        elif name == _OPAQUE:
            yield Member(folder, stat.S_IFDIR, is_opaque=True)
        elif not name.startswith(
            _OLD
        ):  # those are the business of the file system that wrote the layer
            gone = name.removeprefix(_WHITEOUT)
            if gone in (b"", b".", b".."):
                raise wrong_member(member.path, "says of no file that it is gone")
            yield Member(folder + b"/" + gone, stat.S_IFREG, is_whiteout=True)


def _read(stretch: Stretch) -> bytes:
    size = stretch.end - stretch.start
    if size > _MOST_JSON_BYTES:
        raise InvalidInputError(f"a document of the image has {size} bytes")
    return FileArchive(stretch.found, stretch.descriptor, stretch.start, stretch.end).read(size)


def _parse(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(f"the image's {name} is no JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise InvalidInputError(f"the image's {name} is no JSON object")
    return value


def _descriptors(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = document.get(key)
    if not isinstance(found, list):
        raise InvalidInputError(f"a document of the image has no {key}")
    return [_checked(one) for one in found]


def _checked(descriptor: Any) -> Mapping[str, Any]:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not (
        isinstance(digest, str)
        and _DIGEST.fullmatch(digest)
        and isinstance(descriptor.get("size"), int)
    ):
        raise InvalidInputError(f"a descriptor of the image has no digest and size: {digest!r}")
    return dict(descriptor)


def _reference_of(descriptor: Mapping[str, Any]) -> str:
    annotations = descriptor.get("annotations")
    return str(annotations.get(_REFERENCE, "")) if isinstance(annotations, dict) else ""


def _platform_of(descriptor: Mapping[str, Any]) -> str:
    found = descriptor.get("platform")
    if not isinstance(found, dict):
        return ""
    return "/".join(str(found[key]) for key in ("os", "architecture", "variant") if found.get(key))
