"""Which part of a repository a replica holds: revisions by tag and number, paths by their beginning. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.history import Tag

ALL_TAGS = ("*",)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is copied beside the newest revision, and how much of each.

    Shape: `paths` are absolute, each with all below it; none means everything. `tags` are patterns of names, all by
    default, since clients may hold to any; `history` counts revisions before the newest, -1 for all that the upstream
    still has.
    """

    paths: tuple[str, ...] = ()
    tags: tuple[str, ...] = ALL_TAGS
    history: int = 0
    has_packs: bool = True

    def __post_init__(self) -> None:
        for path in self.paths:
            parts = path.split("/")
            if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
                raise InvalidInputError(
                    f"{path!r} is no path of a repository", advice="write it as /folder/below"
                )

    @property
    def is_partial(self) -> bool:
        """Whether files are left out."""
        return bool(self.paths)

    def wants_tag(self, tag: Tag) -> bool:
        """Whether the revision of a tag is copied."""
        return any(fnmatchcase(tag.name, pattern) for pattern in self.tags)

    def wanted_tags(self, tags: Iterable[Tag]) -> list[Tag]:
        """The tags whose revisions are copied, the newest first."""
        return sorted(filter(self.wants_tag, tags), key=lambda tag: (-tag.revision, tag.name))

    def holds(self, path: bytes) -> bool:
        """Whether everything at a path of the repository and below it is copied."""
        return not self.paths or any(_is_below(path, wanted) for wanted in self._bytes())

    def touches(self, path: bytes) -> bool:
        """Whether something at a path or below it is copied."""
        return self.holds(path) or any(_is_below(wanted, path) for wanted in self._bytes())

    def _bytes(self) -> Iterable[bytes]:
        return (path.encode("utf-8", "surrogateescape") for path in self.paths)


def _is_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder + b"/")
