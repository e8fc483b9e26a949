"""Where an object lies in a repository: its kind, and the path that its digest and kind make.

Source: docs/formats/repository.md, "Objects".
"""

from __future__ import annotations

from enum import Enum

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import FormatError

MANIFEST_PATH = ".cvmfspublished"
WHITELIST_PATH = ".cvmfswhitelist"
REFLOG_PATH = ".cvmfsreflog"


class ObjectKind(Enum):
    """What an object is; values are the letters that end its path."""

    PLAIN = ""
    PARTIAL = "P"
    CATALOG = "C"
    HISTORY = "H"
    CERTIFICATE = "X"
    METAINFO = "M"
    PACK = "K"
    PROFILE = "F"


def object_path(digest: Digest, kind: ObjectKind) -> str:
    """An object's path below the repository's root.

    >>> from cernvm.core.digest import parse_digest
    >>> object_path(parse_digest("d6747d09595c52d420faa9d5df4a599138b639a8-shake128"), ObjectKind.CATALOG)
    'data/d6/747d09595c52d420faa9d5df4a599138b639a8-shake128C'
    """
    text = str(digest)
    return f"data/{text[:2]}/{text[2:]}{kind.value}"


def alternative_path(digest: Digest, kind: ObjectKind) -> str:
    """Where a root catalog or certificate lies as well, if its manifest says so: readable where `data/` is not."""
    return f".cvmfsalt-{digest}{kind.value}"


def parse_object_path(path: str) -> tuple[Digest, ObjectKind]:
    """The digest and kind that an object's path names.

    Errors: `FormatError` for any other path.
    """
    parts = path.split("/")
    if len(parts) != 3 or parts[0] != "data" or len(parts[1]) != 2:
        raise FormatError("is no object's path", where=path[:200])
    text = parts[1] + parts[2]
    letter = text[-1] if text[-1:].isupper() else ""
    try:
        return parse_digest(text.removesuffix(letter)), ObjectKind(letter)
    except (FormatError, ValueError):
        raise FormatError("is no object's path", where=path[:200]) from None
