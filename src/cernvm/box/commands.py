"""The words of `cvm` as child processes, as a person would type them.

Commands run to their end with a deadline; services run until they are stopped, and die with this process whatever
happens to it. A service that somebody kills is started again where it was, so that the others find it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError, FormatError, UnavailableError
from cernvm.core.home import Home, ensure_folder
from cernvm.core.linux import die_with_parent
from cernvm.core.log import fields
from cernvm.core.process import read_record, start_child, stop_child

log = logging.getLogger(__name__)

COMMAND_DEADLINE_S = 120.0
SERVICE_DEADLINE_S = 45.0
STOP_GRACE_S = 8.0
MOST_KILLS = 3  # of one service; whoever kills it more often means it
_TAIL_BYTES = 4000
_POLL_S = 0.03

ErrorKinds = Mapping[int, type[CvmError]]


@dataclass(slots=True)
class Service:
    """A service that was started.

    Shape: `address` is where it listens, or empty; `log_begin` where its log began to be this process's; `kills` counts
    the ones before it that were killed.
    """

    words: tuple[str, ...]
    child: subprocess.Popen[bytes]
    log_begin: int
    is_ready: Callable[[], bool] | None = None
    address: str = ""
    kills: int = 0


@dataclass(slots=True)
class Commands:
    """Runs `cvm` for one data folder.

    Shape: `error_kinds` says which error an exit code stands for. Concurrency: the main thread only, since children
    die with the thread that started them.
    """

    home: Home
    error_kinds: ErrorKinds
    region: str = "local"
    services: dict[str, Service] = field(default_factory=dict)

    def run(self, *words: str | Path, deadline_s: float = COMMAND_DEADLINE_S) -> str:
        """Run one command; returns what it printed on stdout. Errors: the command's own; `DeadlineError`.

        One that failed because a service was killed is run again when that is back.
        """
        while True:
            try:
                return self._run(words, deadline_s)
            except UnavailableError:
                if not self.look_after_services():
                    raise

    def json(self, *words: str | Path, deadline_s: float = COMMAND_DEADLINE_S) -> Any:
        """Run one command with `--json`; returns the document. Errors: also `FormatError`."""
        end = words.index("--") if "--" in words else len(words)  # what follows belongs to a job
        text = self.run(*words[:end], "--json", *words[end:], deadline_s=deadline_s)
        try:
            return json.loads(text)
        except ValueError:
            raise FormatError(
                "no JSON was printed", where=f"cvm {' '.join(map(str, words[:2]))}"
            ) from None

    def start(self, service: str, *words: str, is_ready: Callable[[], bool] | None = None) -> str:
        """Start a service and return its address (empty for an agent, which has none) once it has recorded itself.

        With `is_ready`, once that is so.

        Errors: the command's own when it ends; `DeadlineError`.
        """
        self.services.pop(service, None)
        return self._start(service, words, is_ready).address

    def look_after_services(self) -> list[str]:
        """Start those again that were killed, each at its own address; returns which.

        Errors: of a service that ended by itself; `CvmError` for one that is killed again and again.
        """
        revived = []
        for name, service in list(self.services.items()):
            status = service.child.poll()
            if status is None:
                continue
            if status >= 0 or service.kills >= MOST_KILLS:
                raise self._end_of(name, service, status)
            log.warning("service.killed", extra=fields(service=name, signal=-status))
            again = self._start(name, _at(service.words, service.address), service.is_ready)
            again.kills = service.kills + 1
            revived.append(name)
        return revived

    def is_running(self, service: str) -> bool:
        """Whether a service was started and lives."""
        return service in self.services and self.services[service].child.poll() is None

    def stop(self, service: str) -> None:
        """End a service, gently first; nothing happens if it does not run."""
        stopped = self.services.pop(service, None)
        if stopped is not None:
            stop_child(stopped.child, grace_s=STOP_GRACE_S)

    def stop_all(self) -> None:
        """End all services, the last started first."""
        for service in reversed(list(self.services)):
            self.stop(service)

    def _start(
        self, name: str, words: Sequence[str], is_ready: Callable[[], bool] | None
    ) -> Service:
        log_file = ensure_folder(self.home.log) / f"{name}.log"
        begin = log_file.stat().st_size if log_file.exists() else 0
        child = start_child(
            [*cvm(), "--region", self.region, *words], log=log_file, env=self._environment()
        )
        service = self.services[name] = Service(tuple(words), child, begin, is_ready)
        deadline = Deadline.after(SERVICE_DEADLINE_S)
        while not deadline.has_passed:
            status = child.poll()
            if status is not None:
                raise self._end_of(name, service, status)
            record = read_record(self.home.run / f"{name}.json")
            is_recorded = record is not None and record.pid == child.pid
            if is_recorded if is_ready is None else is_ready():
                service.address = record.address if record is not None else ""
                return service
            time.sleep(_POLL_S)
        raise DeadlineError(
            f"starting cvm {' '.join(words[:2])}",
            after_s=SERVICE_DEADLINE_S,
            advice=f"read {log_file}",
        )

    def _run(self, words: Sequence[str | Path], deadline_s: float) -> str:
        with subprocess.Popen(
            [*cvm(), "--region", self.region, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment(),
            preexec_fn=die_with_parent,  # noqa: PLW1509  # prctl only
        ) as child:
            try:
                output, said = child.communicate(timeout=deadline_s)
            except subprocess.TimeoutExpired:
                action = f"cvm {' '.join(map(str, words[:2]))}"
                raise DeadlineError(action, after_s=deadline_s) from None
            finally:
                stop_child(child)
        if child.returncode:
            raise self._error(child.returncode, said.decode(errors="replace"), words)
        return output.decode(errors="replace")

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CVM_HOME": str(self.home.path)}

    def _end_of(self, name: str, service: Service, status: int) -> CvmError:
        log_file = self.home.log / f"{name}.log"
        if status >= 0:
            return self._error(status, _tail(log_file, service.log_begin), service.words)
        often = f", {service.kills + 1} times in all" if service.kills else ""
        return CvmError(
            f"cvm {' '.join(service.words[:2])} was killed by {signal.Signals(-status).name}{often}",
            advice=f"see whether the machine ran out of memory, and {log_file}",
        )

    def _error(self, status: int, said: str, words: Sequence[str | Path]) -> CvmError:
        what, advice = read_complaint(said)
        command = f"cvm {' '.join(map(str, words[:2]))}"
        kind = self.error_kinds.get(status, CvmError)
        error = kind.__new__(kind)
        CvmError.__init__(
            error, f"{command}: {what or f'it ended with status {status}'}", advice=advice
        )
        return error


def cvm() -> list[str]:
    """How to start this very `cvm` again."""
    return [sys.executable, "-c", "from cernvm.cli.main import main; main()"]


def read_complaint(said: str) -> tuple[str, str]:
    r"""The sentence and the advice with which a `cvm` command ended.

    >>> read_complaint("working\ncvm: the disk is full\n  → free some space\n")
    ('the disk is full', 'free some space')
    """
    what = advice = ""
    for line in said.splitlines():
        if line.startswith("cvm: "):
            what, advice = line.removeprefix("cvm: "), ""
        elif line.startswith("  → "):
            advice = line.removeprefix("  → ")
    return what, advice


def _at(words: Sequence[str], address: str) -> list[str]:
    """The words of a service that shall listen where it did before.

    >>> _at(["bus", "serve", "--port", "0"], "127.0.0.1:5222")
    ['bus', 'serve', '--port', '5222']
    """
    port = address.rpartition(":")[2]
    return [
        port if before == "--port" and port else word for before, word in pairwise(("", *words))
    ]


def _tail(log_file: Path, begin: int) -> str:
    with log_file.open("rb") as file:
        file.seek(max(begin, log_file.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace")
