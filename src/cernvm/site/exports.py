"""The repositories that a site mounts once and binds into its instances.

Each is one `cvm mount --foreground` child, started when it is first needed and again, after a growing wait, whenever it
dies. An instance holds the mount it was started with, and a FUSE mount whose server died stays dead for whoever holds
it. So a mount carries its `generation`: an instance started with an older one must be started again, with its id,
address and layer. Decision: docs/decisions/container-hypervisor.md, "When a repository's mount dies".
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError, NotFoundError, UnavailableError
from cernvm.core.home import ensure_folder
from cernvm.core.linux import umount
from cernvm.core.log import fields
from cernvm.core.process import start_child, stop_child
from cernvm.core.retry import backoff_s
from cernvm.site.config import Export
from cernvm.site.refusal import refusal

CVM = (str(Path(sys.executable).with_name("cvm")),)
READY_TIMEOUT_S = 60.0
READY = b"mounted "  # how the line begins that the child prints when its mount answers
_LOOK_AGAIN_S = 0.02
_LOG_LIMIT_BYTES = 4_000_000
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_STABLE_S = 60.0  # a mount that lived so long begins with the shortest wait again
_PATIENCE_S = 5.0  # who needs a repository waits so long for the next attempt
_STACKED_MOUNTS = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mount that answers; `generation` counts how often this repository was mounted, from 1."""

    path: Path
    generation: int


def _waits_s() -> Iterator[float]:
    return backoff_s(initial_s=_FIRST_WAIT_S, maximum_s=_LONGEST_WAIT_S)


@dataclass(slots=True)
class _Mount:
    """One repository's place and child; `lock` is held while the child is being started or stopped."""

    export: Export
    place: Path
    log: Path
    child: subprocess.Popen[bytes] | None = None
    generation: int = 0
    failure: CvmError | None = None  # of the last attempt
    retry_at: float = 0.0  # not before this, on the monotonic clock
    waits_s: Iterator[float] = field(default_factory=_waits_s)
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def is_alive(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def postpone(self) -> None:
        """Have the next attempt wait, each time longer."""
        self.retry_at = time.monotonic() + next(self.waits_s)


class RepositoryMounts:
    """All repositories of a site; `async with` unmounts them at the end, and the kernel ends the children at a crash.

    The caller lives in a mount namespace of its own, so no mount outlives it. Concurrency: one loop.
    """

    def __init__(
        self,
        exports: Iterable[Export],
        *,
        folder: Path,
        cache: Path,
        log_folder: Path,
        command: Sequence[str] = CVM,
    ) -> None:
        """`folder` gets one mount point per repository; `command` is what stands before `mount NAME …`."""
        self._cache, self._command = cache, tuple(command)
        self._mounts = {
            export.name: _Mount(
                export, folder / export.name, log_folder / f"mount-{export.name}.log"
            )
            for export in exports
        }
        self._starting = ThreadPoolExecutor(
            1, "repository-mounts"
        )  # children are tied to its thread
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        group, self._group = self._group, None
        if group is None:
            return None
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as stopping:
                for mount in self._mounts.values():
                    stopping.start_soon(to_thread.run_sync, _stop, mount)
            await to_thread.run_sync(self._starting.shutdown)
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return await group.__aexit__(kind, error, traceback)
        await group.__aexit__(None, None, None)  # the body's own error leaves as it is, in no group
        return None

    async def mounted(self, name: str) -> Mounted:
        """The mount of a repository, made now if need be.

        Errors: `NotFoundError` for a repository that the site does not have; `UnavailableError`, with the child's own
        words, when it cannot be mounted.
        """
        try:
            mount = self._mounts[name]
        except KeyError:
            raise NotFoundError("repository of this site", name) from None
        async with mount.lock:
            if not mount.is_alive:
                await self._start_when_due(mount)
        return Mounted(mount.place, mount.generation)

    async def _start_when_due(self, mount: _Mount) -> None:
        """Mount it, not before its wait is over; when that is long, say again why the last attempt failed."""
        wait_s = mount.retry_at - time.monotonic()
        if mount.failure is not None and wait_s > _PATIENCE_S:
            raise UnavailableError(
                mount.failure.what, advice=mount.failure.advice, retry_after_s=wait_s
            )
        await anyio.sleep(max(0, wait_s))
        try:
            await self._start(mount)
        except CvmError as error:
            mount.failure = error
            mount.postpone()
            raise

    async def _start(self, mount: _Mount) -> None:
        if self._group is None:
            raise UnavailableError("the site is stopping")
        try:
            said_before = await to_thread.run_sync(_prepare, mount)
            spawn = partial(start_child, self._arguments(mount), log=mount.log)
            child = await to_thread.run_sync(lambda: self._starting.submit(spawn).result())
        except OSError as error:
            raise refusal(
                f"{mount.export.name} cannot be mounted", error.errno, error.filename or ""
            ) from error
        try:
            await _wait_until_ready(mount, child, said_before)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(stop_child, child)
            raise
        first = mount.generation == 0
        mount.child = child
        mount.generation += 1
        log.info(
            "repository.mounted",
            extra=fields(repository=mount.export.name, generation=mount.generation),
        )
        if first:
            self._group.start_soon(self._watch, mount)

    async def _watch(self, mount: _Mount) -> None:
        """Mount again whenever the child has died."""
        while True:
            began = time.monotonic()
            await _wait_for_end(mount.child)
            log.error(
                "repository.lost", extra=fields(repository=mount.export.name, log=str(mount.log))
            )
            if time.monotonic() - began > _STABLE_S:
                mount.waits_s = _waits_s()
            mount.postpone()
            while not mount.is_alive:
                await anyio.sleep(max(0, mount.retry_at - time.monotonic()))
                try:
                    await self.mounted(mount.export.name)
                except CvmError as error:
                    log.warning(
                        "repository.not_mounted",
                        extra=fields(repository=mount.export.name, error=error),
                    )

    def _arguments(self, mount: _Mount) -> list[str]:
        export = mount.export
        return [
            "setsid",  # Ctrl-C at the site's terminal must not end mounts before instances
            *self._command,
            "mount",
            export.name,
            str(mount.place),
            "--url",
            export.url,
            "--public-key",
            str(export.public_key),
            "--cache",
            str(self._cache),
            "--foreground",
        ]


async def _wait_until_ready(
    mount: _Mount, child: subprocess.Popen[bytes], said_before: int
) -> None:
    deadline = Deadline.after(READY_TIMEOUT_S)
    while not deadline.has_passed:
        ended = child.poll() is not None
        said = _read_from(mount.log, said_before)
        if any(line.startswith(READY) for line in said.splitlines()):
            return
        if ended:
            raise _mount_error(mount, said.decode("utf-8", "replace"))
        await anyio.sleep(_LOOK_AGAIN_S)
    raise DeadlineError(f"mounting {mount.export.name}", after_s=READY_TIMEOUT_S)


def _read_from(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read()


def _mount_error(mount: _Mount, said: str) -> UnavailableError:
    """The sentence and the advice with which `cvm` ended."""
    lines = said.splitlines()
    reasons = [line.removeprefix("cvm: ") for line in lines if line.startswith("cvm: ")]
    advice = [line.strip(" →") for line in lines if line.lstrip().startswith("→")]
    reason = reasons[-1] if reasons else lines[-1] if lines else "it ended without a word"
    return UnavailableError(
        f"{mount.export.name} cannot be mounted: {reason}",
        advice=advice[-1] if advice else f"see {mount.log}",
    )


async def _wait_for_end(child: subprocess.Popen[bytes] | None) -> None:
    if child is None:
        return
    try:
        process = os.pidfd_open(child.pid)
    except ProcessLookupError:
        return  # it has ended and was waited for
    try:
        await anyio.wait_readable(process)
    finally:
        os.close(process)


def _stop(mount: _Mount) -> None:
    if mount.child is not None:
        with suppress(subprocess.TimeoutExpired):
            stop_child(mount.child)
    _clear(mount.place)


def _clear(place: Path) -> None:
    """Take away whatever is mounted at a place, dead or alive."""
    for _ in range(_STACKED_MOUNTS):
        try:
            umount(place, detach=True)
        except OSError:
            return


def _prepare(mount: _Mount) -> int:
    """Have an empty place and a log of bounded size; returns where the log now ends."""
    _clear(mount.place)
    ensure_folder(mount.place)
    ensure_folder(mount.log.parent)
    return _trim(mount.log)


def _trim(path: Path) -> int:
    """Begin a log that has grown long anew; returns where it now ends."""
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        return 0
    if size_bytes < _LOG_LIMIT_BYTES:
        return size_bytes
    path.unlink()
    return 0
