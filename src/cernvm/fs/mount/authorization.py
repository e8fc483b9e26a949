"""Who may read a protected repository, and who its protected attributes: decided before each request is answered.

What a helper permits or refuses holds for the session of processes that it was asked about, for the time it says.
Source: docs/formats/authorization.md
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.clock import Clock, Deadline, SystemClock
from cernvm.core.errors import CvmError
from cernvm.core.log import fields
from cernvm.fs.fuse import ROOT_INODE, MustWaitError, Patience
from cernvm.fs.fuse.protocol import Opcode, Request
from cernvm.fs.mount.authorization_frames import Subject, Verdict
from cernvm.fs.mount.authorization_helper import Helper, helper_program
from cernvm.fs.vfs import View
from cernvm.net import Credentials

HELPER_FOLDER = Path("/usr/libexec/cvmfs/authz")
FAILED_S = 5
PROCESS_KNOWN_S = 1.0
MAX_REMEMBERED = 10_000

# What tells of names or content; the rest closes things, or is not served at all.
_GUARDED = frozenset(
    {
        Opcode.LOOKUP,
        Opcode.GETATTR,
        Opcode.READLINK,
        Opcode.OPEN,
        Opcode.READ,
        Opcode.GETXATTR,
        Opcode.LISTXATTR,
        Opcode.OPENDIR,
        Opcode.READDIR,
        Opcode.READDIRPLUS,
    }
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuthorizationSettings:
    """Which helper is asked: `helper`, or by the kind of membership the one in `folder`."""

    helper: Path | None = None
    folder: Path = HELPER_FOLDER


@dataclass(frozen=True, slots=True)
class ProcessSession:
    """What a verdict is about: a session of processes, by its leader and when that began, of one user and group."""

    leader: int
    began_tick: int
    uid: int
    gid: int


class Authorizer:
    """Admits requests of one mount. Concurrency: `admit` from any thread that answers requests."""

    def __init__(
        self, view: View, settings: AuthorizationSettings, *, clock: Clock | None = None
    ) -> None:
        self._view = view
        self._settings = settings
        self._clock = clock or SystemClock()
        self._verdicts: OrderedDict[tuple[ProcessSession, str], tuple[Verdict, float]] = (
            OrderedDict()
        )
        self._processes: dict[Subject, tuple[ProcessSession | None, float]] = {}
        self._helpers: dict[Path, Helper] = {}
        self._turn = threading.Lock()
        self._acting = threading.local()

    @property
    def membership(self) -> str:
        """What a reader must have now; empty where all may read."""
        root = self._view.repository.revision.tree.root
        return "" if root is None else root.properties.membership

    @property
    def is_needed(self) -> bool:
        """Whether some requests have to be refused, perhaps."""
        return bool(self.membership) or self._view.magic.is_protecting

    def admit(self, request: Request, patience: Patience) -> None:
        """Let a request pass. Errors: `OSError(EACCES)`; `MustWaitError` when a helper has to be asked first."""
        self._acting.credentials = None
        if request.opcode == Opcode.GETXATTR:
            name = request.body[8:].partition(b"\0")[0]
            if self._view.magic.is_denied(name, request.uid, request.gid):
                raise PermissionError(errno.EACCES, "a protected attribute")
        membership = self.membership
        if not membership or request.opcode not in _GUARDED:
            return
        if request.opcode == Opcode.GETATTR and request.inode == ROOT_INODE:
            return
        verdict = self._verdict(
            membership, Subject(request.uid, request.gid, request.pid), patience
        )
        if not verdict.is_permitted:
            raise PermissionError(errno.EACCES, "this repository is protected")
        self._acting.credentials = verdict.credentials

    def credentials(self) -> Credentials | None:
        """What proves to servers that the request which this thread answers is permitted."""
        found: Credentials | None = getattr(self._acting, "credentials", None)
        return found

    def close(self) -> None:
        """End the helpers."""
        for helper in self._helpers.values():
            helper.close()

    def _verdict(self, membership: str, subject: Subject, patience: Patience) -> Verdict:
        session = self._session(subject)
        if session is None:
            return Verdict(is_permitted=False)
        key = (session, membership)
        known = self._known(key)
        if known is not None:
            return known
        if patience is None:
            raise MustWaitError
        if not self._turn.acquire(timeout=max(patience.remaining_s, 0)):
            return Verdict(is_permitted=False)
        try:
            known = self._known(key)
            if known is not None:
                return known
            verdict = self._ask(membership, subject, patience)
            self._verdicts[key] = (verdict, self._clock.monotonic() + verdict.ttl_s)
            while len(self._verdicts) > MAX_REMEMBERED:
                self._verdicts.popitem(last=False)
            return verdict
        finally:
            self._turn.release()

    def _known(self, key: tuple[ProcessSession, str]) -> Verdict | None:
        verdict, until = self._verdicts.get(key, (None, 0.0))
        return verdict if self._clock.monotonic() < until else None

    def _ask(self, membership: str, subject: Subject, deadline: Deadline) -> Verdict:
        """Ask the helper; one that fails refuses, and is asked again after a while."""
        try:
            program = helper_program(membership, self._settings.helper, self._settings.folder)
            if program not in self._helpers:
                self._helpers[program] = Helper(program, self._view.repository.name)
            verdict = self._helpers[program].ask(membership, subject, deadline)
        except CvmError as error:
            self._view.repository.note_failure(b"", error)
            return Verdict(is_permitted=False, ttl_s=FAILED_S)
        log.info(
            "authorization.decided",
            extra=fields(
                uid=subject.uid,
                pid=subject.pid,
                permitted=verdict.is_permitted,
                ttl_s=verdict.ttl_s,
            ),
        )
        return verdict

    def _session(self, subject: Subject) -> ProcessSession | None:
        session, until = self._processes.get(subject, (None, 0.0))
        now = self._clock.monotonic()
        if now >= until:
            session = process_session(subject)
            if len(self._processes) >= MAX_REMEMBERED:
                self._processes.clear()
            self._processes[subject] = (session, now + PROCESS_KNOWN_S)
        return session


def process_session(subject: Subject) -> ProcessSession | None:
    """The session of a process; None for one that is gone, or lives where we do not see it."""
    if subject.pid <= 0:
        return None
    own = _stat(subject.pid)
    if own is None:
        return None
    leader, began_tick = own[3], own[19]
    of_leader = _stat(leader) if leader else None
    if of_leader is None:  # the leader is gone: the process stands for itself
        return ProcessSession(subject.pid, began_tick, subject.uid, subject.gid)
    return ProcessSession(leader, of_leader[19], subject.uid, subject.gid)


def _stat(pid: int) -> list[int] | None:
    """The numbers of /proc/PID/stat from field 3 on; the letter of the state is 0."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return [0, *(int(field) for field in text[1:20])]
    except (OSError, ValueError):
        return None
