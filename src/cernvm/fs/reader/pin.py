"""A mount or reader held at one revision: by root hash, tag, number or date, instead of following the newest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import FormatError, InvalidInputError, NotFoundError
from cernvm.fs.format.history import Tag

_FORM = "write YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ"


@dataclass(frozen=True, slots=True)
class Pin:
    """At most one way to name a revision; none is set to follow the newest.

    Shape: `root_catalog` is a digest, which whoever gives it vouches for: no signature is asked. `at` is a date, or a
    date and time, UTC where it says no other; it means the last revision of the trunk that was tagged by then.
    Errors: `InvalidInputError` for two of them, and for what cannot be read.
    """

    root_catalog: str = ""
    tag: str = ""
    revision: int = 0
    at: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.root_catalog, self.tag, self.revision, self.at))) > 1:
            raise InvalidInputError(
                "one revision can be named in one way only",
                advice="give a root hash, a tag, a revision or a date",
            )
        if self.revision < 0:
            raise InvalidInputError(f"there is no revision {self.revision}")
        if self.root_catalog:
            _ = self.digest
        if self.at:
            _ = self.moment

    @property
    def is_set(self) -> bool:
        """Whether one revision is named."""
        return self != Pin()

    def breadcrumb_name(self, repository: str) -> str:
        """Under which name a client remembers what the pin meant, in the form of a repository's name."""
        said = f"{self.tag}\n{self.revision}\n{self.at}".encode()
        return f"pin-{hashlib.sha256(said).hexdigest()[:16]}.{repository}"

    @property
    def digest(self) -> Digest:
        """The root catalog."""
        try:
            return parse_digest(self.root_catalog)
        except FormatError as error:
            raise InvalidInputError(
                f"{self.root_catalog[:80]!r} is no root hash: {error.reason}",
                advice="cvm fs tags NAME lists them",
            ) from None

    @property
    def moment(self) -> datetime:
        """The date."""
        try:
            moment = datetime.fromisoformat(self.at)
        except ValueError:
            raise InvalidInputError(f"{self.at[:80]!r} is no date", advice=_FORM) from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def choose(tags: Iterable[Tag], pin: Pin, *, name: str) -> Tag:
    """The tag that a pin means, of the repository `name`; the trunk's goes before another branch's.

    Errors: `NotFoundError`.
    """
    advice = f"cvm fs tags {name} lists what there is"
    known = sorted(tags, key=lambda tag: (tag.branch == "", tag.tagged_at), reverse=True)
    if pin.tag:
        found, what = [tag for tag in known if tag.name == pin.tag], pin.tag
    elif pin.revision:
        found, what = [tag for tag in known if tag.revision == pin.revision], str(pin.revision)
    else:
        on_trunk = [tag for tag in known if not tag.branch]
        found, what = [tag for tag in on_trunk if tag.tagged_at <= pin.moment], pin.at
    if not found:
        kind = "tag" if pin.tag else "tagged revision" if pin.revision else "revision as old as"
        raise NotFoundError(kind, what, advice=advice)
    return found[0]
