"""Every parameter of a CernVM-FS client by name: what it does here, or why nothing (`known.toml`)."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files

from cernvm.fs.parameters.values import PREFIX, Setting, Warned

_OF_SERVERS = re.compile(
    r"CVMFS_(REPOSITORY_(?!TAG|DATE)|S3_|UPSTREAM|STRATUM|SPOOL|UNION|GC_|AUTO_(TAG|GC)|CACHE_)"
)
_LIKENESS = 0.75


class Use(Enum):
    """What becomes of a parameter."""

    TAKEN = "taken"
    OTHER = "other"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Known:
    """A parameter by its full name, what becomes of it, and what there is to say."""

    name: str
    use: Use
    text: str


@cache
def known_parameters() -> Mapping[str, Known]:
    """Parameter → its row, in the order of the table."""
    document = tomllib.loads(files(__package__).joinpath("known.toml").read_text("utf-8"))
    return {
        PREFIX + name: Known(PREFIX + name, Use(section), text)
        for section, rows in document.items()
        for name, text in rows.items()
    }


def unknown_warnings(settings: Mapping[str, Setting]) -> Iterator[Warned]:
    """What to tell about parameters that no client knows, with the nearest one that is known."""
    known = known_parameters()
    for name, setting in settings.items():
        if name in known or _OF_SERVERS.match(name):
            continue
        near = difflib.get_close_matches(name, known, 1, _LIKENESS)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield Warned(setting.origin, f"{name} is no parameter of a client{hint}")
