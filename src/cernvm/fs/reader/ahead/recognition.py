"""Seeing a program begin whose profile was published: it reads the profile's first files, in any order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from cernvm.fs.cache import ContentKey
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.profile import Profile
from cernvm.fs.reader.ahead.course import Step, Wanted, WantedPack
from cernvm.fs.reader.ahead.tally import Way


class Recognition:
    """What is still to be read until a program counts as begun. Concurrency: safe from any thread."""

    def __init__(self, profiles: Sequence[Profile]) -> None:
        # raw digest -> profile, path, and how many there are of the profile's first paths
        self._places: dict[bytes, list[tuple[Profile, bytes, int]]] = {}
        self._seen: dict[str, set[bytes]] = {}
        self._lock = threading.Lock()
        for profile in profiles:
            first = set(profile.first_paths)
            for access in profile.accesses:
                if access.path in first and access.kind is not ObjectKind.CATALOG:
                    places = self._places.setdefault(access.digest.raw, [])
                    places.append((profile, access.path, len(first)))

    @property
    def digests(self) -> frozenset[bytes]:
        """The objects, by raw digest, whose reading tells something."""
        return frozenset(self._places)

    def read(self, raw_digest: bytes) -> list[Profile]:
        """Take note that an object is read; the programs that thereby have begun, and may begin again."""
        begun = []
        with self._lock:
            for profile, path, count in self._places.get(raw_digest, ()):
                seen = self._seen.setdefault(profile.label, set())
                seen.add(path)
                if len(seen) == count:
                    seen.clear()
                    begun.append(profile)
        return begun


def profile_steps(profile: Profile) -> Iterator[Step]:
    """What to fetch for a program, in the order in which it reads: packs where they are first needed."""
    known: set[int] = set()
    for access in profile.accesses:
        if access.pack is None:
            key = ContentKey(access.digest, access.compression)
            yield Wanted(Way.PROFILE, key, access.kind, access.size_bytes)
        elif access.pack not in known:
            known.add(access.pack)
            yield WantedPack(Way.PROFILE, profile.packs[access.pack])
