"""The whitelist `.cvmfswhitelist`: which certificates may sign a repository's manifests, and until when.

Source: docs/formats/repository.md, "Whitelist".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import LetterFormatError

_WHERE = "whitelist"
_TIME = "%Y%m%d%H%M%S"
_FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){19}(-RMD160|-SHAKE128)?")


@dataclass(frozen=True, slots=True)
class Whitelist:
    """The certificates' fingerprints that the master key vouches for.

    Shape: `fingerprints` are digests of certificates in DER; `options` are demands such as `Wcachain`, which a
    client that does not know them must refuse.
    """

    created_at: datetime
    expires_at: datetime
    name: str
    fingerprints: tuple[Digest, ...]
    options: tuple[str, ...] = ()

    def is_expired(self, now: datetime) -> bool:
        """Whether it ran out; the format drops the minutes and seconds of the expiry."""
        return now > self.expires_at.replace(minute=0, second=0, microsecond=0)


def format_whitelist(whitelist: Whitelist) -> str:
    """The whitelist's text."""
    lines = [
        whitelist.created_at.astimezone(UTC).strftime(_TIME),
        "E" + whitelist.expires_at.astimezone(UTC).strftime(_TIME),
        "N" + whitelist.name,
        *whitelist.options,
        *(format_fingerprint(digest) for digest in whitelist.fingerprints),
    ]
    return "".join(f"{line}\n" for line in lines)


def parse_whitelist(text: str) -> Whitelist:
    """The whitelist that a letter's text holds.

    Errors: `LetterFormatError` naming the line.
    """
    lines = text.split("\n")[:-1]
    if len(lines) < 3:
        raise LetterFormatError("fewer than three lines", where=_WHERE)
    created, expires, name, *rest = lines
    if not expires.startswith("E"):
        raise LetterFormatError("no expiry time", where=_WHERE, line=2)
    if not name.startswith("N") or len(name) < 2:
        raise LetterFormatError("no repository name", where=_WHERE, line=3)
    options = []
    while rest and rest[0][:1] in {"V", "W"}:
        options.append(rest.pop(0))
    first = len(lines) - len(rest) + 1
    return Whitelist(
        created_at=_parse_time(created, line=1),
        expires_at=_parse_time(expires[1:], line=2),
        name=name[1:],
        fingerprints=tuple(_parse_line(line, number) for number, line in enumerate(rest, first)),
        options=tuple(options),
    )


def format_fingerprint(digest: Digest) -> str:
    """A certificate's fingerprint as people read it.

    >>> format_fingerprint(Digest(Algorithm.SHAKE128, bytes(20)))[-20:]
    '00:00:00:00-SHAKE128'
    """
    return digest.raw.hex(":").upper() + digest.algorithm.tag.upper()


def parse_fingerprint(text: str) -> Digest | None:
    """The digest a fingerprint stands for; None for other text."""
    if not _FINGERPRINT.fullmatch(text):
        return None
    hex_text, _, tag = text.partition("-")
    algorithm = Algorithm(tag.lower()) if tag else Algorithm.SHA1
    return Digest(algorithm, bytes.fromhex(hex_text.replace(":", "")))


def _parse_line(line: str, number: int) -> Digest:
    digest = parse_fingerprint(re.split(r"[ \t#]", line, maxsplit=1)[0])
    if digest is None:
        raise LetterFormatError(f"{line[:80]!r} is no fingerprint", where=_WHERE, line=number)
    return digest


def _parse_time(text: str, *, line: int) -> datetime:
    try:
        if not re.fullmatch(r"[0-9]{14}", text):
            raise ValueError(text)
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise LetterFormatError(f"{text[:80]!r} is no time", where=_WHERE, line=line) from None
