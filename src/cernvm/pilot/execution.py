"""Runs one job in a fresh folder, as the user the pilot is, and reports how it ended."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import anyio
import anyio.abc

from cernvm.core.errors import DeniedError
from cernvm.pilot import payload
from cernvm.pilot.commands import Ending, Order

TAIL_BYTES = 6 * 1024
# by a machine without memory or by somebody; or because the files that it had mapped went away with their mount
NOT_ITS_FAULT = {128 + signal.SIGKILL, 128 + signal.SIGBUS}
END_S = payload.GRACE_S + payload.SWEEP_S
HOLDER_ENVIRONMENT = {"LANG": "C.UTF-8"}
PASSED_ON = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")


async def execute(
    order: Order, folder: Path, surroundings: Mapping[str, str], *, hidden: Sequence[Path] = ()
) -> Ending:
    """Run the order's command in `folder`/work until it ends, its wall limit is over, or this is cancelled.

    Whatever the reason, no process of the job is left. `surroundings` is the pilot's own environment, of which a job
    sees little; `hidden` are files that it cannot read. Errors: `OSError` when the work folder cannot be used.
    """
    work = folder / "work"
    work.mkdir()
    environment = {name: surroundings[name] for name in PASSED_ON if name in surroundings}
    errand = payload.format_errand(
        order.command,
        limit_s=order.wall_limit_s,
        environment=environment | {"CVM_JOB_ID": order.key.job_id, **order.environment},
        hidden=[str(path) for path in hidden],
    )
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = await _start_holder(work, out, err)
    try:
        await _hand_over(process, errand)
        code = await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await _release(process)
    # a holder that was killed took its command along
    return _to_ending(order, code if code >= 0 else 128 - code, folder)


def has_lost(program: str, *, interpreter: str = sys.executable) -> bool:
    """Whether the file system of a program, or the operating system's own, is there and answers no more.

    The operating system is asked beside `interpreter`. What is missing is not lost.
    """
    return any(_is_gone(os.path.dirname(path)) for path in (program, interpreter))  # noqa: PTH120


def _is_gone(folder: str) -> bool:
    # by a name that nobody ever asked for: the kernel cannot answer it from memory, not even through an overlay
    try:
        os.stat(os.path.join(folder, f".{uuid.uuid4().hex}"))
    except OSError as error:
        return error.errno in (
            errno.ENOTCONN,
            errno.EIO,
            errno.ESTALE,
            errno.ENODEV,
            errno.ECONNABORTED,
        )
    return False


async def can_hide(path: Path) -> bool:
    """Whether this user can hide a file from jobs here; root's jobs are root, from whom nothing is hidden."""
    if os.geteuid() == 0:
        return False
    errand = payload.format_errand(["true"], limit_s=END_S, environment={}, hidden=[str(path)])
    process = await _start_holder(Path("/"), subprocess.DEVNULL, subprocess.DEVNULL)
    try:
        await _hand_over(process, errand)
        with anyio.move_on_after(END_S):
            return await process.wait() != payload.CANNOT_HIDE_CODE
    finally:
        with anyio.CancelScope(shield=True):
            await _release(process)
    return False


async def _start_holder(
    work: Path, out: IO[bytes] | int, err: IO[bytes] | int
) -> anyio.abc.Process:
    return await anyio.open_process(
        [sys.executable, "-I", payload.__file__],
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=err,
        cwd=work,
        env=HOLDER_ENVIRONMENT,
        start_new_session=True,
    )


async def _hand_over(process: anyio.abc.Process, errand: bytes) -> None:
    if process.stdin is not None:
        with suppress(anyio.BrokenResourceError):  # its exit code says what happened
            await process.stdin.send(errand)


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
    elif code in NOT_ITS_FAULT:
        reason = f"its command was killed by {signal.Signals(code - 128).name}"
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
