"""The words of `cvm` as child processes, as a person would type them.

Commands run to their end with a deadline; services run until they are stopped, and die with this process whatever
happens to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError, FormatError
from cernvm.core.home import Home, ensure_folder
from cernvm.core.linux import die_with_parent
from cernvm.core.process import read_record, start_child, stop_child

COMMAND_DEADLINE_S = 120.0
SERVICE_DEADLINE_S = 45.0
STOP_GRACE_S = 8.0
_TAIL_BYTES = 4000
_POLL_S = 0.03

ErrorKinds = Mapping[int, type[CvmError]]


@dataclass(slots=True)
class Commands:
    """Runs `cvm` for one data folder.

    Shape: `error_kinds` says which error an exit code stands for. Concurrency: the main thread only, since children
    die with the thread that started them.
    """

    home: Home
    error_kinds: ErrorKinds
    region: str = "local"
    services: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *words: str | Path, deadline_s: float = COMMAND_DEADLINE_S) -> str:
        """Run one command; returns what it printed on stdout. Errors: the command's own; `DeadlineError`."""
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
        log_file = ensure_folder(self.home.log) / f"{service}.log"
        begin = log_file.stat().st_size if log_file.exists() else 0
        child = start_child(
            [*cvm(), "--region", self.region, *words], log=log_file, env=self._environment()
        )
        self.services[service] = child
        deadline = Deadline.after(SERVICE_DEADLINE_S)
        while not deadline.has_passed:
            if child.poll() is not None:
                raise self._error(child.returncode, _tail(log_file, begin), words)
            record = read_record(self.home.run / f"{service}.json")
            is_recorded = record is not None and record.pid == child.pid
            if is_recorded if is_ready is None else is_ready():
                return record.address if record is not None else ""
            time.sleep(_POLL_S)
        raise DeadlineError(
            f"starting cvm {' '.join(words[:2])}",
            after_s=SERVICE_DEADLINE_S,
            advice=f"read {log_file}",
        )

    def check_services(self) -> None:
        """Errors: of a service that ended although nobody stopped it."""
        for service, child in self.services.items():
            if child.poll() is not None:
                log_file = self.home.log / f"{service}.log"
                raise self._error(child.returncode, _tail(log_file, 0), (service,))

    def stop(self, service: str) -> None:
        """End a service, gently first; nothing happens if it does not run."""
        child = self.services.pop(service, None)
        if child is not None:
            stop_child(child, grace_s=STOP_GRACE_S)

    def stop_all(self) -> None:
        """End all services, the last started first."""
        for service in reversed(list(self.services)):
            self.stop(service)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CVM_HOME": str(self.home.path)}

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


def _tail(log_file: Path, begin: int) -> str:
    with log_file.open("rb") as file:
        file.seek(max(begin, log_file.stat().st_size - _TAIL_BYTES))
        return file.read().decode(errors="replace")
