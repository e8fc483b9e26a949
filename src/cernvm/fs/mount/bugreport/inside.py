"""The stacks of a mount's process: by its own answer, or by a signal when it gives none."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from cernvm.core.errors import CvmError
from cernvm.fs.mount.control import ask
from cernvm.fs.mount.record import MountRecord
from cernvm.fs.mount.stacks import DUMP_SIGNAL

_ANSWER_DEADLINE_S = 0.8
_DUMP_DEADLINE_S = 0.8
_LOOK_S = 0.05
_MOST_BYTES = 256 * 1024


def stacks_of(record: MountRecord, log: Path) -> str:
    """Where every thread is. Errors: `OSError` when neither way works, such as for another user's process."""
    try:
        answer = ask(record.socket, {"ask": "stacks"}, deadline_s=_ANSWER_DEADLINE_S)
        return str(answer["stacks"])
    except (CvmError, KeyError) as error:
        return f"asked: {error}\n{_dumped(record, log)}"


def _dumped(record: MountRecord, log: Path) -> str:
    """What the process adds to its log when it gets the signal, which would end one that does not expect it."""
    pid = record.process.pid
    if not (record.process.is_alive and _expects_dump(pid)):
        return "it does not run, or not far enough to dump its stacks\n"
    before = log.stat().st_size
    os.kill(pid, DUMP_SIGNAL)
    end, size = time.monotonic() + _DUMP_DEADLINE_S, before
    while time.monotonic() < end and (size == before or size != log.stat().st_size):
        size = log.stat().st_size
        time.sleep(_LOOK_S)
    with log.open("rb") as file:
        file.seek(before)
        return file.read(_MOST_BYTES).decode("utf-8", "replace") or "it did not dump its stacks\n"


def _expects_dump(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    is_stopped = re.search(r"^State:\s*[Tt]", status, re.MULTILINE) is not None
    if is_stopped or caught is None:
        return False  # a stopped one would write it whenever it goes on
    return bool(int(caught[1], 16) >> (DUMP_SIGNAL - 1) & 1)
