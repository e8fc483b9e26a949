"""Serving one repository at one place until it is unmounted or this process is asked to end."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeniedError, InvalidInputError, NotFoundError, SignatureError
from cernvm.core.log import fields
from cernvm.fs.cache import DiskBreadcrumbs, DiskCache
from cernvm.fs.format.signature import MAX_PEM_BYTES, check_public_key
from cernvm.fs.fuse import (
    READER_DEADLINE_S,
    Notifier,
    Session,
    Validity,
    attach,
    detach,
    mount_at,
)
from cernvm.fs.mount.control import ControlServer, Question
from cernvm.fs.mount.explanation import why_row
from cernvm.fs.mount.follow import Follower
from cernvm.fs.mount.record import MountRecord, record_mount, remove_record, socket_path
from cernvm.fs.mount.view_operations import ViewOperations
from cernvm.fs.reader import open_repository
from cernvm.fs.vfs import View
from cernvm.net import Chain, ChainFetcher, HttpExchange, parse_hosts, parse_proxies

OPENING_DEADLINE_S = 60.0

# A day where one notice takes everything back; else what the original's kernel cache time-out is.
VALIDITY = Validity(entry_s=86400, attributes_s=86400, negative_s=86400)
VALIDITY_WITHOUT_EPOCHS = Validity(entry_s=60, attributes_s=60, negative_s=10)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a repository comes from and what vouches for it.

    Shape: `hosts` and `proxies` as `net.parse_hosts` and `net.parse_proxies` read them; `public_keys` are PEM files,
    any of which may vouch; `variables` fill in variant symlinks.
    """

    hosts: str
    public_keys: tuple[Path, ...]
    cache: Path
    quota_bytes: int
    proxies: str = "DIRECT"
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MountPlan:
    """Where a repository is to be mounted; `run` is the folder for what is true while the mount lives."""

    repository: str
    point: Path
    run: Path
    reader_deadline_s: float = READER_DEADLINE_S


@dataclass(frozen=True, slots=True)
class LiveMount:
    """A mount that answers."""

    record: MountRecord
    revision: int


def mount_repository(
    plan: MountPlan, source: Source, *, ready: Callable[[LiveMount], None]
) -> None:
    """Open a repository and serve it; returns when it was unmounted. `ready` is called once the mount answers.

    Errors: those of `open_repository` and of `attach`; `NotFoundError` for a key file.
    """
    chain = Chain(parse_hosts(source.hosts, plan.repository), parse_proxies(source.proxies))
    fetcher = ChainFetcher(chain.shuffled(random.Random()), HttpExchange())
    cache = DiskCache(source.cache, quota_bytes=source.quota_bytes)
    try:
        repository = open_repository(
            plan.repository,
            fetcher=fetcher,
            cache=cache,
            breadcrumbs=DiskBreadcrumbs(source.cache),
            master_keys=[_read_key(path) for path in source.public_keys],
            deadline=Deadline.after(OPENING_DEADLINE_S),
        )
        serve_mount(plan, View(repository, variables=source.variables), ready=ready)
    finally:
        fetcher.close()
        cache.close()


def serve_mount(plan: MountPlan, view: View, *, ready: Callable[[LiveMount], None]) -> None:
    """Mount `view` and answer its readers; returns when it was unmounted.

    However this ends, no mount, record or socket stays behind.
    Errors: those of `attach`.
    """
    with _attached(plan) as descriptor:
        device = _device_at(plan.point)
        record = record_mount(plan.run, plan.repository, plan.point, device)
        operations = ViewOperations(view)
        follower = Follower(view, operations, Notifier(descriptor))
        control = ControlServer(socket_path(plan.run, plan.point), _answers(record, view, follower))
        session = Session(
            descriptor,
            operations,
            validity=VALIDITY,
            validity_without_epochs=VALIDITY_WITHOUT_EPOCHS,
            reader_deadline_s=plan.reader_deadline_s,
        )

        def started() -> None:
            follower.start()
            log.info("mount.ready", extra=fields(point=str(plan.point), revision=view.revision))
            ready(LiveMount(record, view.revision))

        try:
            session.serve(ready=started)
        finally:
            follower.stop()
            control.close()


@contextmanager
def _attached(plan: MountPlan) -> Iterator[int]:
    descriptor = attach(plan.point, source=plan.repository)
    device = _device_at(plan.point)
    try:
        yield descriptor
    finally:
        remove_record(plan.run, plan.point)
        if _device_at(plan.point) == device:
            with suppress(NotFoundError):
                detach(plan.point, lazily=True)
        os.close(descriptor)  # whoever still holds files there gets an error from now on
        log.info("mount.ended", extra=fields(point=str(plan.point)))


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            pem = file.read(MAX_PEM_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError("public key", str(path), advice="name it with --public-key") from None
    except OSError as error:
        raise DeniedError(f"the public key {path} cannot be read: {error.strerror}") from error
    try:
        check_public_key(pem)
    except SignatureError as error:
        advice = "name a repository's .pub file, in PEM, with --public-key"
        raise InvalidInputError(f"{path} is no public key: {error.what}", advice=advice) from None
    return pem


def _device_at(point: Path) -> str:
    mounted = mount_at(point)
    return mounted.device if mounted else ""


def _answers(
    record: MountRecord, view: View, follower: Follower
) -> dict[str, Callable[[Question], Mapping[str, Any]]]:
    def status(_question: Question) -> Mapping[str, Any]:
        size = view.statfs()
        return {
            "repository": record.repository,
            "point": str(record.point),
            "pid": record.process.pid,
            "revision": view.revision,
            "reload_due_s": round(view.reload_due_s, 1),
            "cache_bytes": size.total_bytes - size.free_bytes,
            "quota_bytes": size.total_bytes,
            "files": size.files,
        }

    def why(question: Question) -> Mapping[str, Any]:
        path = question.get("path")
        if not isinstance(path, str) or not path.startswith("/"):
            raise InvalidInputError("why needs the path of a file in the repository")
        return why_row(view.why(os.fsencode(path)))

    def remount(_question: Question) -> Mapping[str, Any]:
        return {"changed": follower.reload(), "revision": view.revision}

    return {"status": status, "why": why, "remount": remount}
