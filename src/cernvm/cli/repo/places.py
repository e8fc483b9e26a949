"""Where the commands that look into a store find it: a repository, a replica, or any place that holds one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import FormatError, NotFoundError
from cernvm.core.home import Home
from cernvm.fs.format.history import Tag
from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.manifest import Manifest, parse_manifest
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.publish.repository import Repository, open_storage, read_repository
from cernvm.fs.replicate.keys import read_public_keys
from cernvm.fs.replicate.replica import is_replica, open_replica, read_replica
from cernvm.fs.replicate.state import State, read_state
from cernvm.fs.store.opening import open_store
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_tags

Step = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Place:
    """A repository's store; `repository` is None for one that is not published from here.

    Shape: `master_keys` (PEM) are those that vouch for it as far as this machine knows.
    """

    name: str
    store: ObjectStore
    manifest: Manifest
    master_keys: tuple[bytes, ...]
    repository: Repository | None = None


def open_place(home: Home, text: str, *, keys: Sequence[Path] = ()) -> Place:
    """The store that a name (of a repository or replica), a folder or a store's location means.

    Its manifest is read, not verified: that is `check`'s. Errors: `NotFoundError`, `LetterFormatError`.
    """
    master_keys = tuple(read_public_keys(keys))
    if "/" in text or text in (".", ".."):
        store = open_store(text if "://" in text else str(Path(text).absolute()))
        manifest = read_place_manifest(store, text)
        return Place(manifest.name, store, manifest, master_keys)
    if is_replica(home, text):
        replica = read_replica(home, text)
        store = open_replica(replica)
        known = master_keys or tuple(read_public_keys(replica.public_keys))
        return Place(text, store, read_place_manifest(store, replica.storage), known)
    repository = read_repository(home, text)
    store = open_storage(repository)
    if not master_keys and repository.keys.public.is_file():
        master_keys = (repository.keys.public.read_bytes(),)
    return Place(
        text, store, read_place_manifest(store, repository.storage), master_keys, repository
    )


def find_root(place: Place, text: str) -> Tag:
    """The revision that a tag's name, a revision's number or a root catalog's digest means; the head if empty.

    A digest need not be a tag's; then it has no number. Errors: `NotFoundError`.
    """
    manifest = place.manifest
    if not text:
        return _tag("", manifest.root_catalog, manifest.revision, place)
    tags = read_tags(manifest, place.store)
    for tag in tags:
        if tag.name == text:
            return tag
    if text.isdecimal():
        numbered = [tag for tag in tags if tag.revision == int(text)]
        if int(text) == manifest.revision:
            return _tag(text, manifest.root_catalog, manifest.revision, place)
        if numbered:
            return numbered[0]
    try:
        return _tag(text, parse_digest(text), 0, place)
    except FormatError:
        raise NotFoundError(
            "tag or revision", text, advice=f"see cvm repo tag {place.name} list"
        ) from None


def shown_path(path: bytes) -> str:
    """A path as text; bytes that are none become question marks, and it may hold anything: see `printable`."""
    return (path or b"/").decode("utf-8", "replace")


def replica_state(place: Place) -> State | None:
    """How a replica of this machine stands; None for what is none."""
    if place.repository is not None or place.store.location.startswith("http"):
        return None
    return read_state(place.store)


@contextmanager
def telling(verb: str) -> Iterator[Step]:
    """A line on stderr that says how far a long command is; silent unless that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _all: None
        return
    from rich.console import Console  # noqa: PLC0415  # slow to import, and for terminals only
    from rich.status import Status  # noqa: PLC0415

    with Status(verb, console=Console(stderr=True)) as status:
        yield lambda what, done, total: status.update(
            f"{verb}: {what} {done}" + (f" of {total}" if total else "")
        )


def read_place_manifest(store: ObjectStore, where: str) -> Manifest:
    """The manifest that a store serves, not verified; `where` names the store in errors."""
    try:
        return parse_manifest(parse_letter(store.get(MANIFEST_PATH), where="manifest").text)
    except NotFoundError:
        raise NotFoundError("repository in", where) from None


def _tag(name: str, root: Digest, revision: int, place: Place) -> Tag:
    moment = place.manifest.published_at or datetime.fromtimestamp(0, UTC)
    return Tag(name, root, revision, moment, "", 0)
