"""Runs one job in a fresh folder, as the user the pilot is, and reports how it ended."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio

from cernvm.core.errors import DeniedError
from cernvm.pilot import payload
from cernvm.pilot.commands import Ending, Order

TAIL_BYTES = 6 * 1024
END_S = payload.GRACE_S + payload.SWEEP_S
PASSED_ON = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")


async def execute(order: Order, folder: Path, surroundings: Mapping[str, str]) -> Ending:
    """Run the order's command in `folder`/work until it ends, its wall limit is over, or this is cancelled.

    Whatever the reason, no process of the job is left. `surroundings` is the pilot's own environment, of which a job
    sees little. Errors: `OSError` when the work folder cannot be used.
    """
    work = folder / "work"
    work.mkdir()
    environment = {name: surroundings[name] for name in PASSED_ON if name in surroundings}
    environment |= {"CVM_JOB_ID": order.key.job_id, **order.environment}
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = await anyio.open_process(
            [sys.executable, "-I", payload.__file__, f"{order.wall_limit_s}", *order.command],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=work,
            env=environment,
            start_new_session=True,
        )
    try:
        code = await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await _release(process)
    return _to_ending(order, code, folder)


async def _release(process: anyio.abc.Process) -> None:
    if process.stdin is not None:
        await process.stdin.aclose()  # the lifeline: the payload now ends everything
    with anyio.move_on_after(END_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()


def _to_ending(order: Order, code: int, folder: Path) -> Ending:
    if code == 0:
        missing = [name for name in order.outputs if not (folder / "work" / name).is_file()]
        if not missing:
            return Ending(order.key, is_good=True)
        reason = f"it ended well and left no {', '.join(missing)}"
    elif code == payload.WALL_LIMIT_CODE:
        reason = f"its wall limit of {order.wall_limit_s:g} s was over"
    else:
        reason = f"its command ended with code {code}"
    return Ending(order.key, is_good=False, exit_code=code, reason=reason, tail=_tails(folder))


def _tails(folder: Path) -> str:
    parts = []
    for name in ("stdout", "stderr"):
        with (folder / name).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            if text := file.read().decode("utf-8", "replace").strip():
                parts.append(f"--- {name}\n{text}")
    return "\n".join(parts)


@contextmanager
def work_area(base: Path) -> Iterator[Path]:
    """A folder of this pilot's own below `base`, removed at the end; what killed pilots left there is removed first.

    Errors: `DeniedError` when `base` belongs to somebody else.
    """
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if base.stat().st_uid != os.geteuid() or base.is_symlink():
        raise DeniedError(f"{base} is not yours", advice="choose another work_folder")
    _sweep(base)
    area = Path(tempfile.mkdtemp(prefix="pilot-", dir=base))
    guard = os.open(area, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(guard, fcntl.LOCK_EX)
    try:
        yield area
    finally:
        shutil.rmtree(area, ignore_errors=True)
        os.close(guard)


def _sweep(base: Path) -> None:
    for area in base.glob("pilot-*"):
        with suppress(OSError):
            descriptor = os.open(area, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(
                    descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB
                )  # fails while its pilot lives
                shutil.rmtree(area, ignore_errors=True)
            finally:
                os.close(descriptor)
