"""Whether the objects that revisions need are in the store, by its listings; and what is in them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cernvm.core.errors import DeniedError, FormatError, NotFoundError, TrustError
from cernvm.fs.format.compress import Compression, Inflater, inflate
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack import MAX_PACK_BYTES, Pack, PackReader, parse_pack_head
from cernvm.fs.format.profile import MAX_PROFILE_BYTES
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.check.catalog import CONTENT_BYTES
from cernvm.fs.survey.listing import list_drawers
from cernvm.fs.survey.marks import DRAWERS, KEY_BYTES, Marks, key_of_path, key_path, parse_key

Problem = tuple[bytes, str]
Told = Callable[[str, int, int], None]
_AHEAD = 4  # requests in hand for each lane


def find_missing(store: ObjectStore, needed: Sequence[Marks], told: Told) -> Iterator[Problem]:
    """The keys of objects that are not there, or are empty; one listing of each folder, and no other request.

    Of a store that cannot be listed, a web server, each object is asked for. Catalogs are left out: the walk that
    found the others has read them.
    """
    try:
        yield from _not_listed(store, needed, told)
    except DeniedError:
        for marks in needed:
            yield from _each(store, marks, told, _absence)


def _not_listed(store: ObjectStore, needed: Sequence[Marks], told: Told) -> Iterator[Problem]:
    for number, listed in list_drawers(store):
        told("listed folders", number, DRAWERS)
        keys = {record[:KEY_BYTES] for marks in needed for record in marks.drawer(number)}
        for path, status in listed:
            if status.size_bytes:
                keys.discard(key_of_path(path) or b"")
        for key in sorted(keys):
            if parse_key(key)[1] is not ObjectKind.CATALOG:
                yield key, "it is not in the store"


def find_damaged(store: ObjectStore, needed: Marks, told: Told) -> Iterator[Problem]:
    """The keys of objects that are not what they should be: each is read, hashed and inflated, several at a time.

    Catalogs are left out: the walk that found the others has read them.
    """
    return _each(store, needed, told, _problem)


def _each(
    store: ObjectStore, needed: Marks, told: Told, look: Callable[[ObjectStore, bytes], str]
) -> Iterator[Problem]:
    """What `look` says of each object's record, of those of which it says something."""
    lanes = max(store.lanes, os.cpu_count() or 1)
    with ThreadPoolExecutor(lanes, thread_name_prefix="check") as pool:
        running: deque[tuple[bytes, Future[str]]] = deque()
        done = 0
        for record in needed:
            if parse_key(record[:KEY_BYTES])[1] is ObjectKind.CATALOG:
                continue
            running.append((record[:KEY_BYTES], pool.submit(look, store, record)))
            while len(running) > lanes * _AHEAD:
                yield from _taken(running)
                done += 1
                told("objects read", done, 0)
        while running:
            yield from _taken(running)


def find_unneeded(
    store: ObjectStore, needed: Sequence[Marks], roots: Iterable[bytes]
) -> tuple[int, int]:
    """How many objects are there that nothing refers to, and their bytes; `roots` are keys beside `needed`."""
    others = set(roots)
    count = size_bytes = 0
    for number, listed in list_drawers(store):
        keys = {record[:KEY_BYTES] for marks in needed for record in marks.drawer(number)}
        for path, status in listed:
            key = key_of_path(path)
            if key not in keys and key not in others:
                count += 1
                size_bytes += status.size_bytes
    return count, size_bytes


def _taken(running: deque[tuple[bytes, Future[str]]]) -> Iterator[Problem]:
    key, future = running.popleft()
    text = future.result()
    if text:
        yield key, text


def _absence(store: ObjectStore, record: bytes) -> str:
    """Why an object cannot be had from a web server; empty where it can."""
    try:
        found = store.has(key_path(record[:KEY_BYTES]))
    except TrustError as error:
        return str(error)
    return "" if found else "it is not in the store"


def _problem(store: ObjectStore, record: bytes) -> str:
    """What is wrong with an object; empty for nothing."""
    digest, kind = parse_key(record[:KEY_BYTES])
    try:
        stored = store.get(object_path(digest, kind))
    except NotFoundError:
        return ""  # told as missing
    got = digest.algorithm.digest(stored)
    if got != digest:
        return f"it is damaged: its digest is {got}"
    try:
        return _content_problem(stored, record, kind)
    except (FormatError, TrustError) as error:
        return str(error)


def _content_problem(stored: bytes, record: bytes, kind: ObjectKind) -> str:
    if kind is ObjectKind.PACK:
        _read_pack(stored, record)
        return ""
    if kind is ObjectKind.PROFILE:
        inflate(stored, limit_bytes=MAX_PROFILE_BYTES)
        return ""
    if len(record) < KEY_BYTES + CONTENT_BYTES:
        return ""
    size_bytes = int.from_bytes(record[KEY_BYTES : KEY_BYTES + CONTENT_BYTES - 1], "big")
    inflater = Inflater(Compression(record[-1]), limit_bytes=size_bytes)
    got = sum(len(piece) for piece in inflater.feed(stored))
    inflater.finish()
    return "" if got == size_bytes else f"its content has {got} bytes, not {size_bytes}"


def _read_pack(stored: bytes, record: bytes) -> None:
    """Every object of a pack by its own digest; errors as `PackReader`."""
    objects = parse_pack_head(stored[:MAX_PACK_BYTES])
    count = 1 if objects is None else len(objects)
    reader = PackReader(Pack(parse_key(record[:KEY_BYTES])[0], len(stored), count))
    reader.feed(stored)
    reader.finish()
