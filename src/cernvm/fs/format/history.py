"""The history object: a repository's tags, each a name for a published root catalog.

Connections must use `text_factory = bytes`, as for catalogs.
Source: docs/formats/repository.md, "History".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import CatalogFormatError, FormatError, InvalidInputError

TRUNK = "trunk"
TRUNK_PREVIOUS = "trunk-previous"
MAX_NAME_LENGTH = 255
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]*")
_AUTOMATIC = re.compile(r"generic-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_MAX_TIME_S = 253_402_300_799

CREATE = """\
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE branches (branch TEXT, parent TEXT, initial_revision INTEGER, \
CONSTRAINT pk_branch PRIMARY KEY (branch), FOREIGN KEY (parent) REFERENCES branches (branch), \
CHECK ((branch <> '') OR (parent IS NULL)), CHECK ((branch = '') OR (parent IS NOT NULL)));
CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, \
description TEXT, size INTEGER, branch TEXT, CONSTRAINT pk_tags PRIMARY KEY (name), \
FOREIGN KEY (branch) REFERENCES branches (branch));
CREATE TABLE recycle_bin (hash TEXT, flags INTEGER, CONSTRAINT pk_hash PRIMARY KEY (hash));
INSERT INTO branches (branch, parent, initial_revision) VALUES ('', NULL, 0);
"""
INSERT_TAG = (
    "INSERT INTO tags (name, hash, revision, timestamp, channel, description, size, branch)"
    " VALUES (?, ?, ?, ?, 0, ?, ?, ?)"
)
INSERT_BRANCH = (
    "INSERT OR REPLACE INTO branches (branch, parent, initial_revision) VALUES (?, ?, ?)"
)
SELECT_BRANCHES = "SELECT branch, parent, initial_revision FROM branches WHERE branch <> ''"
SELECT_TAGS = "SELECT name, hash, revision, timestamp, description, size FROM tags"
SELECT_TAGS_OF_BRANCHES = (
    "SELECT name, hash, revision, timestamp, description, size, branch FROM tags"
)
INSERT_PROPERTY = "INSERT INTO properties (key, value) VALUES (?, ?)"


@dataclass(frozen=True, slots=True)
class Tag:
    """A name for one revision.

    Shape: `branch` is empty for the trunk. Units: `size_bytes` is that of the root catalog, uncompressed.
    """

    name: str
    root_catalog: Digest
    revision: int
    tagged_at: datetime
    description: str
    size_bytes: int
    branch: str = ""


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of revisions beside the trunk: `parent` is the branch that it left, empty for the trunk, and when."""

    name: str
    parent: str
    initial_revision: int


@dataclass(frozen=True, slots=True)
class History:
    """All that a history object tells: the tags, as they were added, and the branches other than the trunk."""

    tags: tuple[Tag, ...] = ()
    branches: tuple[Branch, ...] = ()


def check_tag_name(name: str) -> str:
    """The name itself, if a person may give it to a tag; else `InvalidInputError`."""
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name[:80]!r} is no tag name", advice="use letters, digits and . _ : + -"
        )
    if name in (TRUNK, TRUNK_PREVIOUS):
        raise InvalidInputError(f"the tag {name!r} is kept by the publisher itself")
    return name


def automatic_name(moment: datetime) -> str:
    """The tag that every publication gets.

    >>> automatic_name(datetime(2026, 1, 31, 12, 34, 56, tzinfo=UTC))
    'generic-2026-01-31T12:34:56Z'
    """
    return f"generic-{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def with_revision(tags: Iterable[Tag], new: Tag, *, named: Sequence[str]) -> tuple[Tag, ...]:
    """The tags after publishing `new` as trunk, also under the names `named`; the old trunk becomes trunk-previous."""
    kept = {tag.name: tag for tag in tags}
    for name in named:
        kept[name] = _renamed(new, name, new.description)
    if (trunk := kept.get(TRUNK)) is not None:
        kept[TRUNK_PREVIOUS] = _renamed(trunk, TRUNK_PREVIOUS, "default undo target")
    kept[TRUNK] = _renamed(new, TRUNK, "current HEAD")
    return tuple(kept.values())


def used_branches(branches: Iterable[Branch], tags: Iterable[Tag]) -> tuple[Branch, ...]:
    """The branches that have a tag; one that left an unused branch has left what that left."""
    known = {branch.name: branch for branch in branches}
    named = {tag.branch for tag in tags}

    def parent_of(branch: Branch) -> str:
        seen, parent = {branch.name}, branch.parent
        while parent and parent not in named and parent in known and parent not in seen:
            seen.add(parent)
            parent = known[parent].parent
        return parent if parent in named else ""

    return tuple(replace(b, parent=parent_of(b)) for b in known.values() if b.name in named)


def is_automatic(tag: Tag) -> bool:
    """Whether the publisher itself gave this name, so that it may take it back."""
    return _AUTOMATIC.fullmatch(tag.name) is not None


def without_old(tags: Iterable[Tag], *, now: datetime, days: float) -> tuple[Tag, ...]:
    """The tags but those that the publisher gave more than so many days ago."""
    oldest = now - timedelta(days=days)
    return tuple(tag for tag in tags if not is_automatic(tag) or tag.tagged_at >= oldest)


def format_tag(tag: Tag) -> tuple[str, str, int, int, str, int, str]:
    """The row for `INSERT_TAG`."""
    return (
        tag.name,
        str(tag.root_catalog),
        tag.revision,
        int(tag.tagged_at.timestamp()),
        tag.description,
        tag.size_bytes,
        tag.branch,
    )


def format_branch(branch: Branch) -> tuple[str, str, int]:
    """The row for `INSERT_BRANCH`."""
    return branch.name, branch.parent, branch.initial_revision


def parse_branch(row: Sequence[Any]) -> Branch:
    """The branch that a row of `SELECT_BRANCHES` holds; `CatalogFormatError` for values of the wrong kind."""
    name, parent, revision = row
    if type(revision) is not int or revision < 0:
        raise CatalogFormatError("a branch has no revision", where="history")
    return Branch(_text(name), "" if parent is None else _text(parent), revision)


def parse_tag(row: Sequence[Any]) -> Tag:
    """The tag that a row of `SELECT_TAGS` or `SELECT_TAGS_OF_BRANCHES` holds.

    Errors: `CatalogFormatError` for values of the wrong kind.
    """
    name, digest, revision, timestamp, description, size, *branch = row
    numbers = (revision, timestamp, size)
    if any(type(n) is not int or n < 0 for n in numbers) or timestamp > _MAX_TIME_S:
        raise CatalogFormatError("a tag has numbers out of range", where="history")
    try:
        root_catalog = parse_digest(_text(digest))
    except FormatError as exc:
        raise CatalogFormatError(exc.reason, where="history") from None
    moment = datetime.fromtimestamp(timestamp, UTC)
    return Tag(
        _text(name),
        root_catalog,
        revision,
        moment,
        _text(description),
        size,
        _text(branch[0]) if branch and branch[0] is not None else "",
    )


def format_properties(*, name: str, previous: Digest | None) -> list[tuple[str, str]]:
    """The rows of the properties table; `previous` is the digest of the history object before this one."""
    rows = [("schema", "1.0"), ("schema_revision", "3"), ("fqrn", name)]
    return rows if previous is None else [*rows, ("previous_revision", str(previous))]


def _renamed(tag: Tag, name: str, description: str) -> Tag:
    return Tag(name, tag.root_catalog, tag.revision, tag.tagged_at, description, tag.size_bytes)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    raise CatalogFormatError("a tag's text is missing", where="history")
