"""Carry out a plan: each step makes true what it says, or finds it true already.

A second run changes nothing. A step that fails stops those that need it, and nothing else; every step's result is kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum

from cernvm.core.clock import Clock
from cernvm.core.errors import CvmError, NotFoundError, PrerequisiteError
from cernvm.core.log import fields
from cernvm.guest.accounts import AccountFiles, Login, find_login, with_account
from cernvm.guest.machine import FileState, Machine
from cernvm.guest.plan import (
    EnsureAccount,
    Plan,
    RequireRepository,
    SetHostname,
    Step,
    WriteBlock,
    WriteFile,
)

_BEGIN = "# begin of what the context wrote: changes here do not last"
_END = "# end of what the context wrote"
_SKEL = "/etc/skel"
_SECONDS_PER_DAY = 86400
_ROOT_FILE = FileState(False, 0o644, 0, 0)

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a step."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    SKIPPED = "skipped"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Result:
    """A step's outcome, with its reason where it failed or was skipped."""

    step: str
    outcome: Outcome
    reason: str = ""
    took_ms: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether what the step says is true now."""
        return self.outcome not in (Outcome.FAILED, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Applied:
    """All results, the launch's last where the plan has one: `ready`, or skipped with its reason."""

    results: tuple[Result, ...]

    @property
    def is_good(self) -> bool:
        """Whether every step is done."""
        return all(result.is_good for result in self.results)


def apply_plan(plan: Plan, machine: Machine, clock: Clock) -> Applied:
    """Do every step in order; never raises for what a step meets."""
    results: dict[str, Result] = {}
    for step in plan.steps:
        needs = step.needs if isinstance(step, WriteFile) else ()
        result = _stopped(step.name, needs, results) or _try(step, machine, clock)
        results[step.name] = result
        log.log(
            logging.INFO if result.is_good else logging.ERROR,
            "step.done" if result.is_good else "step.failed",
            extra=fields(step=step.name, outcome=result.outcome.value, reason=result.reason or "-"),
        )
    if plan.launch:
        stopped = _stopped(plan.launch.name, plan.launch.needs, results)
        results[plan.launch.name] = stopped or Result(plan.launch.name, Outcome.READY)
    return Applied(tuple(results.values()))


def _stopped(name: str, needs: tuple[str, ...], results: dict[str, Result]) -> Result | None:
    for need in needs:
        if need in results and not results[need].is_good:
            return Result(name, Outcome.SKIPPED, f"needs {need}, which {results[need].outcome}")
    return None


def _try(step: Step, machine: Machine, clock: Clock) -> Result:
    begin = clock.monotonic()
    reason = ""
    try:
        outcome = Outcome.CHANGED if _do(step, machine, clock) else Outcome.UNCHANGED
    except CvmError as error:
        outcome, reason = Outcome.FAILED, f"{error}; {error.advice}" if error.advice else str(error)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        outcome, reason = Outcome.FAILED, f"{place}{error.strerror or error}"
    except UnicodeDecodeError:
        outcome, reason = Outcome.FAILED, "a system file is not UTF-8 text"
    return Result(step.name, outcome, reason, round((clock.monotonic() - begin) * 1000, 1))


def _do(step: Step, machine: Machine, clock: Clock) -> bool:
    """Make the step's statement true; whether anything had to change."""
    match step:
        case SetHostname():
            return _set_hostname(step, machine)
        case WriteFile():
            return _write_file(step, machine)
        case WriteBlock():
            return _write_block(step, machine)
        case EnsureAccount():
            return _ensure_account(step, machine, clock)
        case RequireRepository():
            return _require_repository(step, machine)


def _set_hostname(step: SetHostname, machine: Machine) -> bool:
    renamed = machine.rename(step.hostname)
    return _put(machine, "/etc/hostname", f"{step.hostname}\n".encode(), _ROOT_FILE) or renamed


def _write_file(step: WriteFile, machine: Machine) -> bool:
    uid = gid = 0
    if step.owner:
        login = _login(machine, step.owner)
        uid, gid = login.uid, login.gid
    return _put(machine, step.path, step.content, FileState(False, step.mode, uid, gid))


def _write_block(step: WriteBlock, machine: Machine) -> bool:
    current = (machine.read(step.path) or b"").decode()
    state = machine.look(step.path) or _ROOT_FILE
    return _put(machine, step.path, _with_block(current, step.lines).encode(), state)


def _with_block(text: str, lines: tuple[str, ...]) -> str:
    """The text with our lines between the marks, where they stood or at the end."""
    block = "\n".join((_BEGIN, *lines, _END)) + "\n"
    before, begin, rest = text.partition(f"{_BEGIN}\n")
    _, end, after = rest.partition(f"{_END}\n")
    if begin and end:
        return before + block + after
    return text + ("" if not text or text.endswith("\n") else "\n") + block


def _ensure_account(step: EnsureAccount, machine: Machine, clock: Clock) -> bool:
    if machine.look(step.shell) is None:
        raise NotFoundError("login shell", step.shell, advice="this image has no such program")
    files = _account_files(machine)
    today_days = int(clock.now().timestamp()) // _SECONDS_PER_DAY
    wanted, login = with_account(files, step.account, step.shell, today_days=today_days)
    changed = False
    # the user appears last, when its group and password line are there
    for name in ("group", "gshadow", "shadow", "passwd"):
        text = getattr(wanted, name)
        if text is not None and text != getattr(files, name):
            default = FileState(False, 0o644 if name in ("group", "passwd") else 0o600, 0, 0)
            state = machine.look(f"/etc/{name}") or default
            changed |= _put(machine, f"/etc/{name}", text.encode(), state)
    return _ensure_home(machine, login) or changed


def _account_files(machine: Machine) -> AccountFiles:
    texts = {
        name: raw.decode()
        for name in ("passwd", "group", "shadow", "gshadow")
        if (raw := machine.read(f"/etc/{name}")) is not None
    }
    return AccountFiles(
        texts.get("passwd", ""),
        texts.get("group", ""),
        texts.get("shadow", ""),
        texts.get("gshadow"),
    )


def _ensure_home(machine: Machine, login: Login) -> bool:
    if machine.look(login.home):
        return False
    machine.make_folder(login.home, mode=0o700, uid=login.uid, gid=login.gid)
    skeleton = machine.listing(_SKEL) if machine.look(_SKEL) else ()
    for name in skeleton:
        state = machine.look(f"{_SKEL}/{name}")
        content = machine.read(f"{_SKEL}/{name}") if state and not state.is_folder else None
        if state and content is not None:
            machine.write(
                f"{login.home}/{name}", content, mode=state.mode, uid=login.uid, gid=login.gid
            )
    return True


def _require_repository(step: RequireRepository, machine: Machine) -> bool:
    name = step.repository
    if "." not in name:
        there = machine.listing("/cvmfs") if machine.look("/cvmfs") else ()
        matching = [full for full in there if full.startswith(f"{name}.")]
        if len(matching) != 1:
            found = f"{len(matching)} repositories begin" if matching else "no repository begins"
            raise NotFoundError(
                "repository", name, advice=f"{found} with {name}. below /cvmfs: write its full name"
            )
        name = matching[0]
    if machine.look(f"/cvmfs/{name}") is None:
        raise NotFoundError("repository", name, advice="the site does not give it to this instance")
    if not machine.listing(f"/cvmfs/{name}"):
        raise PrerequisiteError(f"/cvmfs/{name} is empty", advice="the site has not mounted it")
    return False


def _login(machine: Machine, user: str) -> Login:
    login = find_login((machine.read("/etc/passwd") or b"").decode(), user)
    if login is None:
        raise NotFoundError("user", user)
    return login


def _put(machine: Machine, path: str, content: bytes, state: FileState) -> bool:
    if machine.look(path) == state and machine.read(path) == content:
        return False
    machine.write(path, content, mode=state.mode, uid=state.uid, gid=state.gid)
    return True
