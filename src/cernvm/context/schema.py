"""The schema of user-data: which sections and keys there are and what their values look like, from `schema.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cernvm.context.kinds import KINDS, Kind

_FILE = Path(__file__).with_name("schema.toml")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is applied: what its value looks like and what it does."""

    section: str
    name: str
    kind: Kind
    help: str
    example: str
    default: str = ""
    is_required: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class SectionSchema:
    """A section: its keys, and those of the original that are known but not applied."""

    name: str
    help: str
    keys: Mapping[str, Key]
    later: frozenset[str]


@dataclass(frozen=True, slots=True)
class Schema:
    """All that user-data may say; `later_sections` are known but not applied."""

    version: int
    sections: Mapping[str, SectionSchema]
    later_sections: frozenset[str]

    def all_keys(self) -> Iterator[Key]:
        """Every applied key, section by section."""
        for section in self.sections.values():
            yield from section.keys.values()


@cache
def load_schema() -> Schema:
    """The schema that this package brings."""
    document = tomllib.loads(_FILE.read_text("utf-8"))
    return Schema(
        version=document["version"],
        sections={name: _section(name, row) for name, row in document["section"].items()},
        later_sections=frozenset(document["later_sections"]),
    )


def _section(name: str, row: Mapping[str, Any]) -> SectionSchema:
    keys = {key: _key(name, key, spec) for key, spec in row["key"].items()}
    later = frozenset(key.lower() for key in row.get("later", ()))
    return SectionSchema(name, row["help"], keys, later)


def _key(section: str, name: str, row: Mapping[str, Any]) -> Key:
    return Key(
        section,
        name,
        KINDS[row["kind"]],
        help=row["help"],
        example=row["example"],
        default=row.get("default", ""),
        is_required=row.get("required", False),
        is_secret=row.get("secret", False),
    )
