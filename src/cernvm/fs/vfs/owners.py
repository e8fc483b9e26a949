"""Whose files a repository's are shown to be: as published, by a map of numbers, or all claimed by one account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cernvm.core.errors import ConfigError
from cernvm.fs.vfs.attributes import OwnerOf

OTHERS = "*"
_MAX_ID = 2**32 - 2


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """How owners are shown.

    Shape: a map's keys are numbers as text, or `*` for all that it does not name; `claim_uid` and `claim_gid`, where
    set, stand for every owner and group whatever the maps say.
    """

    uid_map: Mapping[str, int] = field(default_factory=dict)
    gid_map: Mapping[str, int] = field(default_factory=dict)
    claim_uid: int | None = None
    claim_gid: int | None = None


def owner_of(settings: OwnerSettings) -> OwnerOf | None:
    """From stored to shown numbers, or None where all are shown as they are stored."""
    if settings == OwnerSettings():
        return None
    uid_of = _number_of(settings.uid_map, settings.claim_uid)
    gid_of = _number_of(settings.gid_map, settings.claim_gid)
    return lambda uid, gid: (uid_of(uid), gid_of(gid))


def _number_of(mapped: Mapping[str, int], claim: int | None) -> Callable[[int], int]:
    if claim is not None:
        return lambda _: claim
    known = {int(key): number for key, number in mapped.items() if key != OTHERS}
    others = mapped.get(OTHERS)
    return lambda number: known.get(number, number if others is None else others)


def parse_id_map(text: str, *, where: str) -> dict[str, int]:
    r"""The lines `FROM TO` of a map's file; FROM may be `*`; comments begin with `#`; a later line wins.

    Errors: `ConfigError` naming the line.

    >>> parse_id_map("0 1000   # mine\n* 65534\n", where="uid.map")
    {'0': 1000, '*': 65534}
    """
    mapped: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not (words[0] == OTHERS or _is_id(words[0])) or not _is_id(words[1]):
            raise ConfigError(
                f"line {number}: {line.strip()[:80]!r} is not 'FROM TO'",
                source=where,
                advice="write two numbers, or * and a number",
            )
        key = words[0] if words[0] == OTHERS else str(int(words[0]))
        mapped[key] = int(words[1])
    return mapped


def _is_id(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 10 and int(word) <= _MAX_ID
