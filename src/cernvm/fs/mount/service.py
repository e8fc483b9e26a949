"""One process's turn at serving a mount: from its first request until the mount is over, or another process's turn."""

from __future__ import annotations

import errno
import gc
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cernvm.core.errors import CvmError, InvalidInputError, NotFoundError, PrerequisiteError
from cernvm.core.log import fields
from cernvm.core.process import Record, describe_process
from cernvm.fs.cache import Breadcrumb
from cernvm.fs.client import Client
from cernvm.fs.fuse import Notifier, OpenLedger, Patience, Session, Validity, detach, mount_at
from cernvm.fs.fuse.protocol import Request
from cernvm.fs.mount.authorization import Authorizer
from cernvm.fs.mount.control import ControlServer, Question
from cernvm.fs.mount.explanation import why_row
from cernvm.fs.mount.follow import Follower
from cernvm.fs.mount.inspection import Inspection
from cernvm.fs.mount.office import Office, holder_of
from cernvm.fs.mount.record import (
    MountRecord,
    record_end,
    record_mount,
    remove_record,
    socket_path,
)
from cernvm.fs.mount.settings import MountSettings
from cernvm.fs.mount.stacks import enable_dump
from cernvm.fs.mount.succession import Belongings, Estate, take_up
from cernvm.fs.mount.talk_server import inspection_answers, talk_server
from cernvm.fs.mount.view_operations import ViewOperations
from cernvm.fs.mount.watch import LoopWatch
from cernvm.fs.vfs import InodeLedger

# All is taken back by notices when a revision changes; without epochs, all but absent names beyond some number.
VALIDITY = Validity(entry_s=86400, attributes_s=86400, negative_s=86400)
VALIDITY_WITHOUT_EPOCHS = Validity(entry_s=86400, attributes_s=86400, negative_s=10)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LiveMount:
    """A mount that answers. `unconfirmed` tells why its revision is the last one seen, and no server's."""

    record: MountRecord
    revision: int
    unconfirmed: str = ""


class Service:
    """Serves an attached mount. With a `successor`, the command of a process that could go on, a holder keeps it.

    Shape: with an `estate`, another process has served before, and `channel` leads to the holder.
    """

    def __init__(
        self,
        settings: MountSettings,
        client: Client,
        descriptor: int,
        *,
        successor: Sequence[str] = (),
        estate: Estate | None = None,
        channel: socket.socket | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._descriptor = descriptor
        self._channel = channel
        self._device = estate.device if estate else device_at(settings.point)
        self._generation = estate.generation if estate else 1
        self._office: Office | None = None
        self._belongings: Belongings | None = None
        if successor:
            self._office = Office(
                successor, leave=self._leave, holder_changed=self._record, channel=channel
            )
            self._belongings = (
                take_up(estate) if estate else Belongings(InodeLedger(), OpenLedger())
            )
            client.view.keep_inodes(self._belongings.inodes)
        operations = ViewOperations(client.view)
        notifier = Notifier(descriptor, has_epochs=settings.kernel.epochs)
        self._follower = Follower(
            client.view,
            operations,
            notifier,
            on_changing=self._guard,
            on_change=self._bequeath,
            on_refusal=self._refuse,
            most_known=settings.kernel.most_known_inodes,
        )
        self._session = Session(
            descriptor,
            operations,
            validity=VALIDITY,
            validity_without_epochs=VALIDITY_WITHOUT_EPOCHS,
            settings=settings.kernel,
            opened=self._belongings.opened if self._belongings else None,
            may_be_resumed=bool(successor),
        )
        self._authorizer = Authorizer(client.view, settings.authorization)
        client.repository.objects.credentials = self._authorizer.credentials
        self._watch = LoopWatch(
            lambda: self._session.in_hand, limit_s=settings.kernel.reader_deadline_s
        )
        self.record = self._described(None)
        self._is_in_office = False
        self._refusal: CvmError | None = None

    def run(self, ready: Callable[[LiveMount], None]) -> None:
        """Serve; `ready` is called once the mount answers. At the end no mount, record or socket stays behind.

        Unless there is a holder, and another process goes on: because this one was asked to leave, or failed.
        Errors: why the repository may be shown no longer, if that ended it; the record tells it too.
        """
        try:
            self._serve(ready)
        except Exception:
            if not self._is_in_office:
                self._end()
            raise
        except BaseException:  # asked to end
            self._end()
            raise
        if self._refusal is not None:
            self._end()
            raise self._refusal
        if self._session.has_left:
            self._client.view.keep_inodes(None)
            if self._office:
                self._office.resign()
            log.info("mount.left", extra=fields(point=str(self._settings.point)))
        else:
            self._end()

    def _serve(self, ready: Callable[[LiveMount], None]) -> None:
        def started() -> None:
            if self._office:
                self._office.enter(self._estate())
                self._is_in_office = self.record.holder is not None
            self._guard()
            self._watch.start()
            self._follower.start(invalidating=self._generation > 1)
            revision = self._client.view.revision
            point = str(self._settings.point)
            log.info("mount.ready", extra=fields(point=point, revision=revision))
            ready(LiveMount(self.record, revision, self._client.repository.revision_error))

        heritage = self._belongings.heritage if self._belongings else None
        self._is_in_office = self._channel is not None
        self._record(holder_of(self._channel) if self._channel else None)
        with ExitStack() as stack:
            inspection = Inspection(
                self._settings, self.record, self._client, self._follower.reload
            )
            answers = {**self._answers(), **inspection_answers(inspection)}
            try:
                control = ControlServer(
                    socket_path(self._settings.run, self._settings.point), answers
                )
                stack.callback(control.close)
            except OSError as error:
                if self._generation == 1:
                    raise
                log.warning("control.unavailable", extra=fields(error=str(error)))
            stack.callback(self._authorizer.close)
            stack.callback(self._follower.stop)
            stack.callback(self._watch.stop)
            stack.enter_context(talk_server(inspection))
            enable_dump()
            _spare_the_collector()
            if heritage:
                self._session.resume(heritage, ready=started)
            else:
                self._session.serve(ready=started)

    def _end(self) -> None:
        if self._office:
            self._office.end()
        self._strike_record()
        if device_at(self._settings.point) == self._device:
            with suppress(NotFoundError):
                detach(self._settings.point, lazily=True)
        os.close(self._descriptor)  # whoever still holds files there gets an error from now on
        log.info("mount.ended", extra=fields(point=str(self._settings.point)))

    def _strike_record(self) -> None:
        run, point = self._settings.run, self._settings.point
        if self._refusal is None:
            remove_record(run, point)
            return
        log.error("mount.refused", extra=fields(point=str(point), error=str(self._refusal)))
        try:
            record_end(run, self.record, str(self._refusal))
        except (OSError, ValueError) as error:
            log.warning("record.lost", extra=fields(error=str(error)))

    def _refuse(self, reason: CvmError) -> None:
        """End the mount: what it shows may be read no longer, also by those who have files open."""
        if self._refusal is None:
            self._refusal = reason
            self._session.guard(_deny, may_remember=False)
            self._follower.forget_content()  # or the kernel would go on by itself
            self._leave()

    def _leave(self) -> None:
        self._session.leave()
        # The loop sees it with the next request, so here is one; should it not come through, the holder kills us.
        threading.Thread(target=self._knock, name="mount-knock", daemon=True).start()

    def _knock(self) -> None:
        with suppress(OSError):
            os.statvfs(self._settings.point)

    def _guard(self) -> None:
        """A new revision may be protected, or not any more: decided before it is shown."""
        if self._refusal is not None:
            return
        authorizer = self._authorizer
        self._session.guard(
            authorizer.admit if authorizer.is_needed else None,
            may_remember=not authorizer.membership,
        )

    def _bequeath(self) -> None:
        if self._office and self._session.heritage:
            self._office.keep(self._estate())

    def _estate(self) -> Estate:
        heritage, belongings = self._session.heritage, self._belongings
        assert heritage is not None
        assert belongings is not None
        revision = self._client.repository.revision
        published = revision.published_at
        return Estate(
            self._settings,
            Breadcrumb(
                revision.root_catalog,
                int(published.timestamp()) if published else 0,
                revision.number,
            ),
            self._device,
            self._generation,
            heritage.minor,
            heritage.flags,
            self._descriptor,
            belongings.inodes.descriptor,
            belongings.opened.descriptor,
            heritage.in_hand.descriptor if heritage.in_hand else None,
        )

    def _record(self, holder: Record | None) -> None:
        """Write the record anew. A full disk must not end a mount that another process has made."""
        settings = self._settings
        try:
            self.record = record_mount(
                settings.run, settings.repository, settings.point, self._device, holder=holder
            )
        except OSError as error:
            if self._generation == 1 and not self._is_in_office:
                raise
            self.record = self._described(holder)
            log.warning("record.lost", extra=fields(error=str(error)))

    def _described(self, holder: Record | None) -> MountRecord:
        settings = self._settings
        socket_at = str(socket_path(settings.run, settings.point))
        process = describe_process(os.getpid(), f"mount {settings.repository}", address=socket_at)
        return MountRecord(settings.repository, settings.point, self._device, process, holder)

    def _answers(self) -> dict[str, Callable[[Question], Mapping[str, Any]]]:
        view = self._client.view

        def status(_question: Question) -> Mapping[str, Any]:
            size, record = view.statfs(), self.record
            return {
                "repository": record.repository,
                "point": str(record.point),
                "pid": record.process.pid,
                "holder": record.holder.pid if record.holder else None,
                "generation": self._generation,
                "revision": view.revision,
                "reload_due_s": round(view.reload_due_s, 1),
                "cache_bytes": size.total_bytes - size.free_bytes,
                "quota_bytes": size.total_bytes,
                "files": size.files,
                "ahead": view.repository.ahead.counters(),
                "peers": self._client.peers.counters(),
            }

        def why(question: Question) -> Mapping[str, Any]:
            path = question.get("path")
            if not isinstance(path, str) or not path.startswith("/"):
                raise InvalidInputError("why needs the path of a file in the repository")
            waiting, longest_s = self._session.waiting
            row = why_row(view.why(os.fsencode(path)))
            return {**row, "waiting": waiting, "longest_s": round(longest_s, 3)}

        def remount(_question: Question) -> Mapping[str, Any]:
            return {"changed": self._follower.reload(), "revision": view.revision}

        def reload(question: Question) -> Mapping[str, Any]:
            command = question.get("command", [])
            if not (isinstance(command, list) and all(isinstance(word, str) for word in command)):
                raise InvalidInputError("a command is a list of words")
            if self._office is None:
                raise PrerequisiteError(
                    "this mount has no holder, so its process cannot be replaced",
                    advice="unmount it and mount it again",
                )
            return {"successor": self._office.replace(command)}

        return {"status": status, "why": why, "remount": remount, "reload": reload}


def _deny(_request: Request, _patience: Patience) -> None:
    raise OSError(errno.EIO, "refused")


def device_at(point: Path) -> str:
    """The file system at a mount point as mount tables have it; empty when nothing is mounted there."""
    mounted = mount_at(point)
    return mounted.device if mounted else ""


def _spare_the_collector() -> None:
    """What stands now stays, and look-ups make no cycles: walking all of it every few hundred would slow each down."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
