"""Serving one repository at one place until it is unmounted or this process is asked to end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.core.log import fields
from cernvm.fs.client import open_client
from cernvm.fs.fuse import Notifier, Session, Validity, attach, detach, mount_at
from cernvm.fs.mount.control import ControlServer, Question
from cernvm.fs.mount.explanation import why_row
from cernvm.fs.mount.follow import Follower
from cernvm.fs.mount.record import MountRecord, record_mount, remove_record, socket_path
from cernvm.fs.mount.settings import MountSettings
from cernvm.fs.mount.view_operations import ViewOperations
from cernvm.fs.vfs import View

# A day where one notice takes everything back; else what the original's kernel cache time-out is.
VALIDITY = Validity(entry_s=86400, attributes_s=86400, negative_s=86400)
VALIDITY_WITHOUT_EPOCHS = Validity(entry_s=60, attributes_s=60, negative_s=10)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LiveMount:
    """A mount that answers."""

    record: MountRecord
    revision: int


def mount_repository(settings: MountSettings, *, ready: Callable[[LiveMount], None]) -> None:
    """Open a repository and serve it; returns when it was unmounted. `ready` is called once the mount answers.

    Errors: those of `open_client` and of `attach`.
    """
    with open_client(settings.client) as client:
        serve_mount(settings, client.view, ready=ready)


def serve_mount(settings: MountSettings, view: View, *, ready: Callable[[LiveMount], None]) -> None:
    """Mount `view` and answer its readers; returns when it was unmounted.

    However this ends, no mount, record or socket stays behind.
    Errors: those of `attach`.
    """
    with _attached(settings) as descriptor:
        device = _device_at(settings.point)
        record = record_mount(settings.run, settings.repository, settings.point, device)
        operations = ViewOperations(view)
        follower = Follower(view, operations, Notifier(descriptor))
        control = ControlServer(
            socket_path(settings.run, settings.point), _answers(record, view, follower)
        )
        session = Session(
            descriptor,
            operations,
            validity=VALIDITY,
            validity_without_epochs=VALIDITY_WITHOUT_EPOCHS,
            settings=settings.kernel,
        )

        def started() -> None:
            follower.start()
            log.info("mount.ready", extra=fields(point=str(settings.point), revision=view.revision))
            ready(LiveMount(record, view.revision))

        try:
            session.serve(ready=started)
        finally:
            follower.stop()
            control.close()


@contextmanager
def _attached(settings: MountSettings) -> Iterator[int]:
    descriptor = attach(settings.point, source=settings.repository)
    device = _device_at(settings.point)
    try:
        yield descriptor
    finally:
        remove_record(settings.run, settings.point)
        if _device_at(settings.point) == device:
            with suppress(NotFoundError):
                detach(settings.point, lazily=True)
        os.close(descriptor)  # whoever still holds files there gets an error from now on
        log.info("mount.ended", extra=fields(point=str(settings.point)))


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
