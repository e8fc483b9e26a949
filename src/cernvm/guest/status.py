"""What became of the context, as a file that people and programs read: `python3 -m cernvm.guest.status [--json]`.

It holds no secret: steps and findings are named, values are not. Source: docs/formats/user-data.md, "Status".
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from cernvm.context.finding import Finding
from cernvm.guest.apply import Result
from cernvm.guest.machine import LocalMachine, Machine
from cernvm.guest.sources.search import Attempt

STATUS_PATH = "/var/lib/cernvm/status.json"
_VERSION = 1


class State(StrEnum):
    """How far the instance is, or how it ended up."""

    SEARCHING = "searching"
    DONE = "done"
    FAILED = "failed"
    NO_CONTEXT = "no context"


@dataclass(frozen=True, slots=True)
class CommandStatus:
    """The contextualization command: `running`, `ended` with `exit_status`, or `not started`."""

    user: str
    program: str
    state: str
    pid: int = 0
    exit_status: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """Everything known about the contextualization of this boot."""

    state: State
    reason: str = ""
    instance_id: str = ""
    took_ms: int = 0
    sources: tuple[Attempt, ...] = ()
    findings: tuple[Finding, ...] = ()
    steps: tuple[Result, ...] = ()
    command: CommandStatus | None = None

    def with_command(self, command: CommandStatus, failure: str = "") -> Status:
        """The same, the command having changed; `failure` says why it could not be started."""
        if not failure:
            return replace(self, command=command)
        return replace(self, command=command, state=State.FAILED, reason=failure)


def write_status(status: Status, machine: Machine) -> None:
    """Replace the status file."""
    text = json.dumps({"version": _VERSION, **asdict(status)}, indent=1, ensure_ascii=False)
    machine.write(STATUS_PATH, text.encode(), mode=0o644, uid=0, gid=0)


def read_status(machine: Machine) -> dict[str, Any] | None:
    """The status file as plain values; None where there is none, or it cannot be read."""
    try:
        row = json.loads(machine.read(STATUS_PATH) or b"null")
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the status; 0 when the context is applied, 1 when not."""
    parser = argparse.ArgumentParser(prog="cernvm-status", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the file as it is")
    options = parser.parse_args(arguments)
    row = read_status(LocalMachine())
    if row is None:
        sys.stderr.write("no status: this instance has not been contextualized\n")
        return 1
    text = json.dumps(row, indent=1, ensure_ascii=False) if options.json else _table(row)
    sys.stdout.write(f"{text}\n")
    return 0 if row.get("state") == State.DONE else 1


def _table(row: dict[str, Any]) -> str:
    lines = [
        f"{row.get('state')} {row.get('reason') or ''} in {row.get('took_ms')} ms",
        *(
            f"  source  {source['source']:24} {source['outcome']:10} {source['reason']}"
            for source in row.get("sources", ())
        ),
        *(
            f"  line {finding['line']:<4} {finding['severity']:10} {finding['message']}"
            for finding in row.get("findings", ())
        ),
        *(
            f"  step    {step['step']:24} {step['outcome']:10} {step['reason']}"
            for step in row.get("steps", ())
        ),
    ]
    if command := row.get("command"):
        ended = "" if command["exit_status"] is None else f" with status {command['exit_status']}"
        lines.append(f"  command {command['program']:24} {command['state']}{ended}")
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
