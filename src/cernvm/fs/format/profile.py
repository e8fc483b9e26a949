"""Profiles: what a program reads first, in order, so that a client which sees it begin can fetch the rest ahead.

The root catalog names a revision's profiles by label (`pack_table`). A profile is a zlib object of text lines; its
small objects also lie, in the order of access, in packs of its own.
Source: docs/formats/profiles.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import FormatError, ObjectFormatError
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.pack_table import is_label

MAX_PROFILE_BYTES = 16 << 20  # inflated
MAX_ACCESSES = 1 << 16
DEFAULT_TRIGGER = 3
MAX_TRIGGER = 1 << 10

_FIRST_LINE = "CVMPROFILE1"
_MAX_PATH_BYTES = 4096
_MAX_FILE_BYTES = 1 << 48
_KINDS = {kind.value: kind for kind in (ObjectKind.PLAIN, ObjectKind.PARTIAL, ObjectKind.CATALOG)}


@dataclass(frozen=True, slots=True)
class Access:
    """One object that the program needs, and where it stood in the tree.

    Shape: `path` is a file's, or a nested catalog's mountpoint for an object of kind `CATALOG`; `pack` counts the
    profile's packs from 0, None for an object that lies in none of them. Units: `size_bytes` of content; `offset` is
    where a chunk begins in its file, 0 for everything else.
    """

    path: bytes
    digest: Digest
    kind: ObjectKind
    compression: Compression
    size_bytes: int
    offset: int = 0
    pack: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """The first accesses of one program, in order.

    Shape: the program is taken to have begun once a client saw all of the first `trigger` files being read, in
    any order.
    """

    label: str
    trigger: int
    packs: tuple[Pack, ...]
    accesses: tuple[Access, ...]

    def __post_init__(self) -> None:
        if not is_label(self.label) or not 0 < self.trigger <= MAX_TRIGGER:
            raise ObjectFormatError("label or trigger make no sense", where="profile")
        if len(self.accesses) > MAX_ACCESSES or len(self.packs) > len(self.accesses):
            raise ObjectFormatError("it is too long", where="profile")
        if any(a.pack is not None and a.pack >= len(self.packs) for a in self.accesses):
            raise ObjectFormatError("it names a pack that it does not have", where="profile")

    @property
    def first_paths(self) -> tuple[bytes, ...]:
        """The files by whose reading a client recognises the beginning."""
        files = (a.path for a in self.accesses if a.kind is not ObjectKind.CATALOG)
        return tuple(dict.fromkeys(files))[: self.trigger]


def format_profile(profile: Profile) -> bytes:
    """The profile's lines, not yet compressed."""
    return "".join(f"{line}\n" for line in _lines(profile)).encode("ascii")


def parse_profile(data: bytes, *, label: str) -> Profile:
    """The profile in an inflated object that the root catalog calls `label`.

    Errors: `ObjectFormatError`, with the line.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise ObjectFormatError("is no text", where="profile") from None
    lines = _Lines(text)
    lines.take(_FIRST_LINE, 0)
    if lines.take("label", 1) != [label]:
        raise lines.wrong("it is of another label")
    trigger = lines.number(lines.take("trigger", 1)[0], MAX_TRIGGER)
    packs = []
    while lines.has("pack"):
        packs.append(_parse_pack(lines))
    accesses = []
    while lines.has("access"):
        accesses.append(_parse_access(lines))
    lines.finish()
    try:
        return Profile(label, trigger, tuple(packs), tuple(accesses))
    except ObjectFormatError as error:
        raise lines.wrong(error.reason) from None


def quote_path(path: bytes) -> str:
    """A path as text without blanks: bytes other than letters, digits and _ . - ~ / become %XX."""
    return quote_from_bytes(path, safe="/")


def unquote_path(text: str) -> bytes:
    """The path that `quote_path` made this of; `FormatError` for any other text."""
    path = unquote_to_bytes(text)
    parts = path.split(b"/")
    if parts[0] or len(path) > _MAX_PATH_BYTES or b"\0" in path or quote_path(path) != text:
        raise FormatError(f"{text[:80]!r} is no path")
    if len(parts) < 2 or any(part in (b"", b".", b"..") for part in parts[1:]):
        raise FormatError(f"{text[:80]!r} is no plain path")
    return path


def _lines(profile: Profile) -> Iterator[str]:
    yield _FIRST_LINE
    yield f"label {profile.label}"
    yield f"trigger {profile.trigger}"
    for pack in profile.packs:
        yield f"pack {pack.digest} {pack.size_bytes} {pack.object_count}"
    for access in profile.accesses:
        place = "-" if access.pack is None else str(access.pack)
        name = f"{access.digest}{access.kind.value}"
        numbers = f"{int(access.compression)} {access.offset} {access.size_bytes} {place}"
        yield f"access {name} {numbers} {quote_path(access.path)}"


class _Lines:
    """The lines of a profile, taken one after the other; errors name the one that was taken last."""

    def __init__(self, text: str) -> None:
        if text and not text.endswith("\n"):
            raise ObjectFormatError("is cut off", where="profile")
        # at most one line more than a good profile has, so that a bad one costs no more
        self._lines = text.split("\n", 2 * MAX_ACCESSES + 4)
        self._at = 0

    def has(self, word: str) -> bool:
        """Whether the next line begins with this word."""
        return self._at < len(self._lines) and self._lines[self._at].startswith(word + " ")

    def take(self, word: str, count: int) -> list[str]:
        """The words after the first one of the next line."""
        self._at += 1
        words = self._lines[self._at - 1].split(" ") if self._at <= len(self._lines) else []
        if len(words) != count + 1 or words[0] != word:
            raise self.wrong(f"should be {word} and {count} values")
        return words[1:]

    def finish(self) -> None:
        """State that no line should be left."""
        if self._lines[self._at :] != [""]:
            self._at += 1
            raise self.wrong("should not be there")

    def digest(self, text: str) -> Digest:
        """The digest that a word is."""
        try:
            return parse_digest(text)
        except FormatError as error:
            raise self.wrong(error.reason) from None

    def number(self, text: str, most: int) -> int:
        """The number, of 0 to `most`, that a word is, without leading zeros."""
        if not (text.isascii() and text.isdecimal() and len(text) <= 16 and str(int(text)) == text):
            raise self.wrong(f"{text[:40]!r} is no number")
        if int(text) > most:
            raise self.wrong(f"{text} is too large")
        return int(text)

    def wrong(self, reason: str) -> ObjectFormatError:
        """The error for the line that was taken last."""
        return ObjectFormatError(reason, where="profile", line=self._at)


def _parse_pack(lines: _Lines) -> Pack:
    digest, size, count = lines.take("pack", 3)
    try:
        return Pack(lines.digest(digest), lines.number(size, 1 << 40), lines.number(count, 1 << 40))
    except ObjectFormatError as error:
        raise lines.wrong(error.reason) from None


def _parse_access(lines: _Lines) -> Access:
    name, compression, offset, size, pack, path = lines.take("access", 6)
    letter = name[-1:] if name[-1:].isupper() else ""
    if letter not in _KINDS:
        raise lines.wrong(f"{letter!r} is no kind of object that a program reads")
    try:
        return Access(
            path=unquote_path(path),
            digest=lines.digest(name.removesuffix(letter)),
            kind=_KINDS[letter],
            compression=Compression.from_flag(lines.number(compression, 1)),
            size_bytes=lines.number(size, _MAX_FILE_BYTES),
            offset=lines.number(offset, _MAX_FILE_BYTES),
            pack=None if pack == "-" else lines.number(pack, MAX_ACCESSES),
        )
    except FormatError as error:
        if isinstance(error, ObjectFormatError):
            raise
        raise lines.wrong(error.reason) from None
