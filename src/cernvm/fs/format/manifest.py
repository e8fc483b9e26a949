"""The manifest `.cvmfspublished`: which revision a repository is at, and the digests everything hangs on.

Source: docs/formats/repository.md, "Manifest".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import FormatError, LetterFormatError

ROOT_PATH_MD5 = "d41d8cd98f00b204e9800998ecf8427e"  # MD5 of the root's path, the empty string
DEFAULT_TTL_S = 240
_WHERE = "manifest"
_MAX_NUMBER = 2**64 - 1
_MAX_TIME_S = 253_402_300_799  # the last second of the year 9999


@dataclass(frozen=True, slots=True)
class Manifest:
    """One published revision.

    Shape: `root_catalog_sha256` is of the uncompressed root catalog, in hex; `second_signature` base64, over all other
    lines (`second.py`). Units: `ttl_s` seconds between a client's looks; `root_catalog_size_bytes` uncompressed.
    """

    root_catalog: Digest
    root_catalog_size_bytes: int
    ttl_s: int
    revision: int
    name: str = ""
    certificate: Digest | None = None
    history: Digest | None = None
    published_at: datetime | None = None
    metainfo: Digest | None = None
    reflog: Digest | None = None
    garbage_collectable: bool = False
    alternative_paths: bool = False
    root_path_md5: str = ROOT_PATH_MD5
    root_catalog_sha256: str = ""
    second_signature: str = ""


def format_manifest(manifest: Manifest) -> str:
    """The manifest's text, in the order that the original writes."""
    published = manifest.published_at
    rows = [
        ("C", manifest.root_catalog),
        ("B", manifest.root_catalog_size_bytes),
        ("R", manifest.root_path_md5),
        ("D", manifest.ttl_s),
        ("S", manifest.revision),
        ("G", _yes_no(manifest.garbage_collectable)),
        ("A", _yes_no(manifest.alternative_paths)),
        ("N", manifest.name or None),
        ("X", manifest.certificate),
        ("H", manifest.history),
        ("T", None if published is None else int(published.timestamp())),
        ("M", manifest.metainfo),
        ("Y", manifest.reflog),
        ("K", manifest.root_catalog_sha256 or None),
        ("E", manifest.second_signature or None),
    ]
    return "".join(f"{key}{value}\n" for key, value in rows if value is not None)


def parse_manifest(text: str) -> Manifest:
    """The manifest that a letter's text holds; keys of later versions are ignored.

    Errors: `LetterFormatError` naming the line.
    """
    fields = _Fields(text)
    return Manifest(
        root_catalog=fields.digest("C"),
        root_catalog_size_bytes=fields.number("B", default=0),
        ttl_s=fields.number("D"),
        revision=fields.number("S"),
        name=fields.text("N", default=""),
        certificate=fields.optional_digest("X"),
        history=fields.optional_digest("H"),
        published_at=fields.time("T"),
        metainfo=fields.optional_digest("M"),
        reflog=fields.optional_digest("Y"),
        garbage_collectable=fields.text("G", default="no") == "yes",
        alternative_paths=fields.text("A", default="no") == "yes",
        root_path_md5=fields.text("R"),
        root_catalog_sha256=fields.text("K", default=""),
        second_signature=fields.text("E", default=""),
    )


class _Fields:
    """The lines of a manifest by their key letter; every getter names the line when its value is wrong."""

    def __init__(self, text: str) -> None:
        self._lines: dict[str, tuple[int, str]] = {}
        for number, line in enumerate(text.split("\n")[:-1], start=1):
            if not line:
                raise LetterFormatError("empty line", where=_WHERE, line=number)
            if line[0] in self._lines:
                raise LetterFormatError(f"key {line[0]!r} twice", where=_WHERE, line=number)
            self._lines[line[0]] = (number, line[1:])

    def text(self, key: str, *, default: str | None = None) -> str:
        if key in self._lines:
            return self._lines[key][1]
        if default is None:
            raise LetterFormatError(f"key {key!r} is missing", where=_WHERE)
        return default

    def number(self, key: str, *, default: int | None = None) -> int:
        text = self.text(key, default=None if default is None else str(default))
        if not text.isdecimal() or len(text) > 20 or int(text) > _MAX_NUMBER:
            raise self._wrong(key, "a number from 0 to 2^64-1")
        return int(text)

    def digest(self, key: str) -> Digest:
        try:
            return parse_digest(self.text(key))
        except LetterFormatError:
            raise
        except FormatError:
            raise self._wrong(key, "a digest") from None

    def optional_digest(self, key: str) -> Digest | None:
        return self.digest(key) if key in self._lines else None

    def time(self, key: str) -> datetime | None:
        if key not in self._lines:
            return None
        seconds = self.number(key)
        if seconds > _MAX_TIME_S:
            raise self._wrong(key, "a time before the year 10000")
        return datetime.fromtimestamp(seconds, UTC)

    def _wrong(self, key: str, wanted: str) -> LetterFormatError:
        line, value = self._lines[key]
        return LetterFormatError(f"{key}{value[:80]!r} is not {wanted}", where=_WHERE, line=line)


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"
