"""Sets of objects that are larger than memory: kept on disk in 256 drawers, by the first byte of the digest.

The store lists its objects in folders by that same byte, so that sweeping and checking look into one drawer at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from cernvm.core.digest import DIGEST_BYTES, Algorithm, Digest
from cernvm.core.errors import FormatError, HostError
from cernvm.core.workshop import open_scratch
from cernvm.fs.format.objects import ObjectKind, object_path

KEY_BYTES = DIGEST_BYTES + 2
DRAWERS = 256
_BUFFER_BYTES = 16 << 10  # of each drawer; all together 4 MB
_TIDY_BYTES = 4 << 20  # a drawer as long as this is freed of duplicates

_ALGORITHMS = tuple(Algorithm)
_LETTERS = {ord(kind.value or "\0"): kind for kind in ObjectKind}
_SUFFIXES = {
    f"{algorithm.tag}{kind.value}": object_suffix
    for algorithm in Algorithm
    for kind in ObjectKind
    for object_suffix in (bytes((algorithm.flag, ord(kind.value or "\0"))),)
}
_HEX_DIGITS = 2 * DIGEST_BYTES
_FOLDER = len("data/xx/")


def key_suffix(algorithm: Algorithm, kind: ObjectKind) -> bytes:
    """What follows a digest's 20 bytes in the key of an object."""
    return _SUFFIXES[f"{algorithm.tag}{kind.value}"]


def object_key(digest: Digest, kind: ObjectKind) -> bytes:
    """An object as a key of `KEY_BYTES`: its digest, its algorithm and its kind."""
    return digest.raw + key_suffix(digest.algorithm, kind)


def parse_key(key: bytes) -> tuple[Digest, ObjectKind]:
    """The object that a key stands for."""
    digest = Digest(_ALGORITHMS[key[DIGEST_BYTES]], key[:DIGEST_BYTES])
    return digest, _LETTERS[key[DIGEST_BYTES + 1]]


def key_path(key: bytes) -> str:
    """Where the object of a key lies in its store."""
    return object_path(*parse_key(key))


def key_of_path(path: str) -> bytes | None:
    """The key of what lies at a path below `data/`; None for what is no object."""
    text = path[5:7] + path[_FOLDER:]
    suffix = _SUFFIXES.get(text[_HEX_DIGITS:])
    if (
        suffix is None
        or path[7:_FOLDER] != "/"
        or text != text.lower()[:_HEX_DIGITS] + text[_HEX_DIGITS:]
    ):
        return None
    try:
        return bytes.fromhex(text[:_HEX_DIGITS]) + suffix
    except ValueError:
        return None


def drawer_prefix(number: int) -> str:
    """Where the store lists the objects of a drawer."""
    return f"data/{number:02x}/"


class Marks:
    """Records that begin with an object's key; each once, however often it was added.

    Shape: records are of one length, `record_bytes`. Use as a context manager: its folder ends with it.
    Concurrency: one thread. Errors: `HostError` for a disk that is full.
    """

    def __init__(self, *, record_bytes: int = KEY_BYTES) -> None:
        self._record_bytes = record_bytes
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(open_scratch())
        self._waiting = [bytearray() for _ in range(DRAWERS)]
        self._written = [0] * DRAWERS
        self._tidy_at = [_TIDY_BYTES] * DRAWERS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, records: Iterable[bytes]) -> None:
        """Add records; where they are many, it is quicker to add them together."""
        waiting = self._waiting
        for record in records:
            waiting[record[0]] += record
        for number, drawer in enumerate(waiting):
            if len(drawer) >= _BUFFER_BYTES:
                self._flush(number)

    def drawer(self, number: int) -> set[bytes]:
        """The records of one drawer, about one in 256."""
        size = self._record_bytes
        data = self._read(number) + self._waiting[number]
        return {bytes(data[at : at + size]) for at in range(0, len(data), size)}

    def __contains__(self, record: bytes) -> bool:
        """Whether a record was added; reads its drawer."""
        return record in self.drawer(record[0])

    def __iter__(self) -> Iterator[bytes]:
        """All records, drawer by drawer, in order."""
        for number in range(DRAWERS):
            yield from sorted(self.drawer(number))

    def _flush(self, number: int) -> None:
        data = self._waiting[number]
        try:
            with self._path(number).open("ab") as file:
                file.write(data)
        except OSError as error:
            raise HostError(str(self._folder), error.strerror or str(error)) from error
        self._written[number] += len(data)
        data.clear()
        if self._written[number] >= self._tidy_at[number]:
            unique = b"".join(self.drawer(number))
            self._path(number).write_bytes(unique)
            self._written[number] = len(unique)
            self._tidy_at[number] = max(_TIDY_BYTES, 2 * len(unique))

    def _read(self, number: int) -> bytes:
        return self._path(number).read_bytes() if self._written[number] else b""

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:02x}"


def parse_alternative_path(path: str) -> bytes | None:
    """The key of the object that also lies at a path of the store's root; None for other paths."""
    name = path.removeprefix(".cvmfsalt-")
    if name == path or "/" in name:
        return None
    try:
        return key_of_path(f"data/{name[:2]}/{name[2:]}")
    except FormatError:
        return None
