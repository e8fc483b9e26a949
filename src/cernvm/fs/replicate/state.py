"""What a replica's store says of itself: for which scope its catalogs are whole, and how it stands.

`.cvmfs_replica.json` is ours; the other documents are those that monitors of the original's replicas read.
Source: docs/formats/replica.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cernvm.core.errors import NotFoundError
from cernvm.fs.replicate.scope import Scope
from cernvm.fs.store.port import ObjectStore

STATE_PATH = ".cvmfs_replica.json"
LAST_SNAPSHOT_PATH = ".cvmfs_last_snapshot"
IS_SNAPSHOTTING_PATH = ".cvmfs_is_snapshotting"
STATUS_PATH = ".cvmfs_status.json"
MASTER_REPLICA_PATH = ".cvmfs_master_replica"
MAX_DOCUMENT_BYTES = 1 << 16

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_DATE = "%a %b %e %H:%M:%S UTC %Y"


@dataclass(frozen=True, slots=True)
class State:
    """How a replica stands.

    Shape: `paths` and `has_packs` are the scope for which a catalog in the store tells that all below it is there,
    `tags` and `history` which other revisions were looked for;
    `is_working` while objects are being copied, `boot` says since which start of the machine: files that were not
    durable when it went down may be gone. An empty `boot` is of a copying that itself could not believe the catalogs.
    """

    paths: tuple[str, ...]
    has_packs: bool
    is_working: bool
    boot: str
    tags: tuple[str, ...] = ()
    history: int = 0

    def is_done(self, scope: Scope) -> bool:
        """Whether all that the scope wants of the served revision's upstream was copied."""
        copied = (self.tags, self.history) == (tuple(sorted(scope.tags)), scope.history)
        return copied and not self.is_working and self.vouches_for(scope)

    def vouches_for(self, scope: Scope) -> bool:
        """Whether a catalog that is there need not be looked into."""
        is_same = (self.paths, self.has_packs) == (tuple(sorted(scope.paths)), scope.has_packs)
        return is_same and (not self.is_working or self.boot == boot_id())


def read_state(store: ObjectStore) -> State | None:
    """What the store's last replication said; None where there was none, or it cannot be read."""
    document = read_document(store, STATE_PATH)
    paths, packs, working, boot = (
        document.get(key) for key in ("paths", "packs", "working", "boot")
    )
    if not (isinstance(paths, list) and all(isinstance(path, str) for path in paths)):
        return None
    if not (type(packs) is bool and type(working) is bool and isinstance(boot, str)):
        return None
    tags, history = document.get("tags"), document.get("history")
    if not (isinstance(tags, list) and type(history) is int):
        return None
    return State(tuple(paths), packs, working, boot, tuple(map(str, tags)), history)


def write_state(
    store: ObjectStore, scope: Scope, *, is_working: bool, trusts_presence: bool = True
) -> None:
    """State for which scope catalogs are whole from now on; not yet where their presence could not be trusted."""
    document = {
        "schema": 1,
        "paths": sorted(scope.paths),
        "packs": scope.has_packs,
        "tags": sorted(scope.tags),
        "history": scope.history,
        "working": is_working,
        "boot": boot_id() if trusts_presence else "",
    }
    write_document(store, STATE_PATH, document)


def set_replicable(store: ObjectStore, *, is_replicable: bool, now: datetime) -> None:
    """Let the original's replicas copy a repository, or not; those made here ask for no leave."""
    if is_replicable:
        store.replace(MASTER_REPLICA_PATH, f"{format_date(now)}\n".encode())
    else:
        store.delete(MASTER_REPLICA_PATH)


@contextmanager
def collecting(store: ObjectStore, *, now: Callable[[], datetime]) -> Iterator[None]:
    """While objects of a replica are deleted, and after that was broken off, its catalogs vouch for nothing."""
    document = read_document(store, STATE_PATH)
    if document:
        write_document(store, STATE_PATH, {**document, "working": True, "boot": ""})
    yield
    if document:
        write_document(store, STATE_PATH, document)
    note_status(store, {"last_gc": format_date(now())})


def note_status(store: ObjectStore, values: Mapping[str, str]) -> None:
    """Add to the status that monitors read, and keep what else it says."""
    write_document(store, STATUS_PATH, {**read_document(store, STATUS_PATH), **values})


def read_document(store: ObjectStore, path: str) -> dict[str, Any]:
    """A small JSON object of the store; empty where there is none that can be read."""
    try:
        document = json.loads(store.get(path)[:MAX_DOCUMENT_BYTES])
    except (NotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def write_document(store: ObjectStore, path: str, document: Mapping[str, Any]) -> None:
    """Replace a small JSON object of the store."""
    store.replace(path, json.dumps(document, indent=1).encode() + b"\n")


def format_date(moment: datetime) -> str:
    """A time as `date --utc` prints it.

    >>> format_date(datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))
    'Wed Mar  4 05:06:07 UTC 2026'
    """
    return moment.astimezone(UTC).strftime(_DATE)


def parse_date(text: str) -> datetime | None:
    """The time in a line of `date --utc`; None for other text."""
    try:
        return datetime.strptime(" ".join(text.split()), "%a %b %d %H:%M:%S UTC %Y").replace(
            tzinfo=UTC
        )
    except ValueError:
        return None


def boot_id() -> str:
    """What is another one after the machine was started again."""
    return _BOOT.read_text("ascii").strip()
