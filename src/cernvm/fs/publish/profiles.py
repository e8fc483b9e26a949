"""The profiles of a revision: recorded reads, resolved anew in the tree that is being published.

Flow: `kept_recordings` (what the last revision's profiles were made of) → `ProfileWriter.write` → the root catalog.
Source: docs/formats/profiles.md.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cernvm.core.digest import Digest
from cernvm.core.errors import FormatError, NotFoundError
from cernvm.core.log import fields
from cernvm.fs.format.compress import Compression, deflate, inflate
from cernvm.fs.format.entry import EntryKind, NestedCatalog
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.pack_table import SMALL_BYTES
from cernvm.fs.format.profile import (
    DEFAULT_TRIGGER,
    MAX_ACCESSES,
    MAX_PROFILE_BYTES,
    Access,
    Profile,
    format_profile,
    parse_profile,
    quote_path,
)
from cernvm.fs.format.reads import FirstRead
from cernvm.fs.publish.cutting import MOST_BYTES, OBJECT_BYTES
from cernvm.fs.publish.packing import Packer, SmallObject
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item, unpack_profiles
from cernvm.fs.survey.reading import read_object

ACCESS_BYTES = 120  # of an access's line, besides its path
PACK_LINES_BYTES = 1 << 20  # of all packs' lines together

Find = Callable[[bytes], "Found | None"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at a path, and the nested catalogs on the way to it, the uppermost first."""

    item: Item
    catalogs: tuple[NestedCatalog, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """What a profile is made of: a program's first reads in order, and how many files make its beginning."""

    label: str
    reads: tuple[FirstRead, ...]
    trigger: int = DEFAULT_TRIGGER


@dataclass(frozen=True, slots=True)
class WrittenProfile:
    """A profile of the new revision; `profile` is None where nothing was left of it.

    Shape: `lost_paths` were read when it was recorded, and are files of the revision no more.
    """

    label: str
    profile: Profile | None
    digest: Digest | None
    lost_paths: tuple[bytes, ...]


def read_profiles(root_catalog: Digest, store: ObjectStore) -> list[Profile]:
    """The profiles of a revision by label; one whose object is gone or damaged is left out, and logged."""
    listed = unpack_profiles(read_object(store, root_catalog, ObjectKind.CATALOG))
    found = []
    for label, digest in listed:
        try:
            stored = store.get(object_path(digest, ObjectKind.PROFILE))
            found.append(parse_profile(inflate(stored, limit_bytes=MAX_PROFILE_BYTES), label=label))
        except (NotFoundError, FormatError) as error:
            log.warning("profile.lost", extra=fields(label=label, error=str(error)))
    return found


def recording_of(profile: Profile) -> Recording:
    """What a published profile was made of, as far as it stands in it."""
    reads = (
        FirstRead(access.path, access.offset)
        for access in profile.accesses
        if access.kind is not ObjectKind.CATALOG
    )
    return Recording(profile.label, tuple(reads), profile.trigger)


@dataclass(slots=True)
class ProfileWriter:
    """Resolves recordings, and puts profiles and their packs into the store."""

    store: ObjectStore
    packer: Packer

    def write(self, find: Find, recordings: Sequence[Recording]) -> list[WrittenProfile]:
        """The profiles, by label, of the revision in which `find` finds paths."""
        return [
            self._write(find, recording)
            for recording in sorted(recordings, key=lambda recording: recording.label)
        ]

    def _write(self, find: Find, recording: Recording) -> WrittenProfile:
        accesses, lost = _resolve(find, recording.reads)
        if all(access.kind is ObjectKind.CATALOG for access in accesses):
            return WrittenProfile(recording.label, None, None, lost)
        profile = self._packed(Profile(recording.label, recording.trigger, (), tuple(accesses)))
        stored = deflate(format_profile(profile))
        digest = self.packer.repository.algorithm.digest(stored)
        path = object_path(digest, ObjectKind.PROFILE)
        if not self.store.has(path):
            self.store.put(path, stored)
            self.packer.progress.add_object(len(stored))
        return WrittenProfile(recording.label, profile, digest, lost)

    def _packed(self, profile: Profile) -> Profile:
        """The profile with its small objects in packs."""
        if not self.packer.is_on:
            return profile
        packs: list[Pack] = []
        accesses = list(profile.accesses)
        for positions in _groups(accesses):
            pack = self.packer.pack([_small(accesses[at]) for at in positions])
            if pack is not None:
                for at in positions:
                    accesses[at] = replace(accesses[at], pack=len(packs))
                packs.append(pack)
        return replace(profile, packs=tuple(packs), accesses=tuple(accesses))


def _resolve(find: Find, reads: Sequence[FirstRead]) -> tuple[list[Access], tuple[bytes, ...]]:
    """The objects that the reads need now, each once, in order, as many as fit; and the paths that are gone."""
    objects: dict[tuple[Digest, ObjectKind], Access] = {}
    lost: dict[bytes, None] = {}
    room_bytes = MAX_PROFILE_BYTES - PACK_LINES_BYTES
    for read in reads:
        found = find(read.path)
        accesses = [] if found is None else list(_accesses(found, read))
        if not accesses:
            lost[read.path] = None
        for access in accesses:
            if (access.digest, access.kind) in objects:
                continue
            room_bytes -= ACCESS_BYTES + len(quote_path(access.path))
            if len(objects) < MAX_ACCESSES and room_bytes > 0:
                objects[access.digest, access.kind] = access
    return list(objects.values()), tuple(lost)


def _accesses(found: Found, read: FirstRead) -> Iterator[Access]:
    """The catalogs on the way to a file, and the object of it that was read; nothing for what has no content here."""
    entry, chunks = found.item.entry, found.item.chunks
    if entry.kind is not EntryKind.FILE or entry.is_external:
        return
    at = bisect.bisect_right(chunks, read.offset, key=lambda chunk: chunk.offset) - 1
    if entry.is_chunked and at < 0:
        return
    for nested in found.catalogs:
        kind, size = ObjectKind.CATALOG, nested.size_bytes
        yield Access(nested.path, nested.digest, kind, Compression.ZLIB, size)
    if entry.is_chunked:
        chunk, kind = chunks[at], ObjectKind.PARTIAL
        yield Access(
            read.path, chunk.digest, kind, entry.compression, chunk.size, offset=chunk.offset
        )
    elif entry.digest is not None:
        yield Access(read.path, entry.digest, ObjectKind.PLAIN, entry.compression, entry.size)


def _groups(accesses: Sequence[Access]) -> Iterator[list[int]]:
    """The positions of the small objects that go into each pack."""
    group: list[int] = []
    counted = 0
    for at, access in enumerate(accesses):
        if access.size_bytes > SMALL_BYTES:
            continue
        size = access.size_bytes + OBJECT_BYTES
        if group and counted + size > MOST_BYTES:
            yield group
            group, counted = [], 0
        group.append(at)
        counted += size
    if group:
        yield group


def _small(access: Access) -> SmallObject:
    return SmallObject(access.digest, access.kind, access.compression, access.size_bytes)
