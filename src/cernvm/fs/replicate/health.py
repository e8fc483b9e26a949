"""How the repositories of this machine stand: what a person looks at first, and what a monitor asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import IntEnum
from functools import partial

from cernvm.core.errors import CvmError, FormatError, NotFoundError
from cernvm.core.home import Home
from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.objects import WHITELIST_PATH
from cernvm.fs.format.whitelist import parse_whitelist
from cernvm.fs.publish.repository import known_repositories, open_storage
from cernvm.fs.replicate.replica import Replica, known_replicas, open_replica
from cernvm.fs.replicate.replicating import read_replicated
from cernvm.fs.replicate.state import IS_SNAPSHOTTING_PATH, STATUS_PATH, parse_date, read_document
from cernvm.fs.store.port import ObjectStore

EXPIRES_SOON = timedelta(days=7)
STALE_AFTER = timedelta(days=1)


class Grade(IntEnum):
    """Whether somebody has to do something."""

    OK = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Health:
    """How one repository stands.

    Shape: `kind` is `stratum0` or `replica`; `reasons` say why it is not OK; `upstream_revision` is what the upstream
    offers, not verified, None where nobody asked or nobody answered; times are None where they are unknown.
    """

    name: str
    kind: str
    grade: Grade = Grade.OK
    reasons: tuple[str, ...] = ()
    revision: int | None = None
    root_hash: str = ""
    published_at: datetime | None = None
    whitelist_expires_at: datetime | None = None
    upstream_revision: int | None = None
    last_snapshot: datetime | None = None
    last_gc: datetime | None = None
    last_check: datetime | None = None
    check_status: str = ""
    last_error: str = ""
    last_error_at: datetime | None = None
    is_snapshotting: bool = False
    has_upstream: bool = False

    @property
    def lag(self) -> int | None:
        """How many revisions a replica is behind its upstream."""
        if self.revision is None or self.upstream_revision is None:
            return None
        return max(0, self.upstream_revision - self.revision)

    def row(self) -> dict[str, object]:
        """As JSON shows it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["grade"] = self.grade.name.lower()
        values["reasons"] = list(self.reasons)
        values["lag"] = self.lag
        return {key: _shown(value) for key, value in values.items()}


def read_health(
    home: Home, now: datetime, upstream_revision: Callable[[Replica], int | None]
) -> list[Health]:
    """All repositories and replicas that this machine knows, by name; what cannot be read is an error of its own."""
    found = [
        _health(Health(made.name, "stratum0"), partial(open_storage, made), now)
        for made in known_repositories(home)
    ]
    for replica in known_replicas(home):
        begun = Health(
            replica.name,
            "replica",
            upstream_revision=upstream_revision(replica) if replica.urls else None,
            has_upstream=bool(replica.urls),
        )
        found.append(_health(begun, partial(open_replica, replica), now))
    return sorted(found, key=lambda one: one.name)


def _health(begun: Health, open_its_store: Callable[[], ObjectStore], now: datetime) -> Health:
    try:
        store = open_its_store()
        manifest = read_replicated(store, begun.name)
        expires_at = _expiry(store)
        status = read_document(store, STATUS_PATH)
        is_snapshotting = store.has(IS_SNAPSHOTTING_PATH)
    except CvmError as error:
        return replace(begun, grade=Grade.ERROR, reasons=(f"it cannot be read: {error}",))
    read = replace(
        begun,
        revision=None if manifest is None else manifest.revision,
        root_hash="" if manifest is None else str(manifest.root_catalog),
        published_at=None if manifest is None else manifest.published_at,
        whitelist_expires_at=expires_at,
        last_snapshot=_date(status, "last_snapshot"),
        last_gc=_date(status, "last_gc"),
        last_check=_date(status, "last_check"),
        check_status=str(status.get("check_status", ""))[:100],
        last_error=str(status.get("last_error", ""))[:1000],
        last_error_at=_date(status, "last_error_at"),
        is_snapshotting=is_snapshotting,
    )
    found = sorted(_findings(read, now), key=lambda one: -one[0])
    grade = found[0][0] if found else Grade.OK
    return replace(read, grade=grade, reasons=tuple(reason for _, reason in found))


def _findings(read: Health, now: datetime) -> Iterator[tuple[Grade, str]]:
    if read.revision is None:
        yield Grade.ERROR, "nothing is served yet"
    expires_at = read.whitelist_expires_at
    if expires_at is None:
        yield Grade.ERROR, "there is no whitelist"
    elif expires_at <= now:
        yield Grade.ERROR, f"the whitelist expired at {expires_at:%Y-%m-%d %H:%M} UTC"
    elif expires_at - now < EXPIRES_SOON:
        yield Grade.WARNING, f"the whitelist expires at {expires_at:%Y-%m-%d %H:%M} UTC"
    if read.check_status == "failed":
        yield Grade.ERROR, "the last check found damage"
    if read.kind != "replica":
        return
    last, failed = read.last_snapshot, read.last_error_at
    if failed is not None and (last is None or last < failed):
        yield Grade.ERROR, f"the last replication failed: {read.last_error}"
    if read.has_upstream and read.upstream_revision is None:
        yield Grade.WARNING, "no upstream answers"
    if read.lag:
        yield Grade.WARNING, f"it is {read.lag} revisions behind its upstream"
    if last is not None and now - last > STALE_AFTER and not read.is_snapshotting:
        yield Grade.WARNING, f"it was not updated since {last:%Y-%m-%d %H:%M} UTC"


def _expiry(store: ObjectStore) -> datetime | None:
    try:
        letter = parse_letter(store.get(WHITELIST_PATH), where="whitelist")
    except NotFoundError:
        return None
    try:
        return parse_whitelist(letter.text).expires_at
    except FormatError:
        return None


def _date(status: dict[str, object], key: str) -> datetime | None:
    return parse_date(str(status.get(key, "")))


def _shown(value: object) -> object:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else value
