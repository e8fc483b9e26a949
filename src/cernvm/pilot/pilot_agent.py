"""The pilot agent: does inside an instance what its dialogue decides. One job at a time, until it is told to stop.

Light on purpose: the base install, slixmpp and anyio.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from cernvm.core.errors import CvmError, MessageFormatError
from cernvm.core.log import fields
from cernvm.messaging import Bus, Message
from cernvm.pilot.commands import Ending, JobKey, Order
from cernvm.pilot.dialogue import Action, Dialogue, Drop, Execute, Say, Store
from cernvm.pilot.execution import NOT_ITS_FAULT, can_hide, execute, has_lost, work_area
from cernvm.pilot.job import Output
from cernvm.pilot.outputs import Upload, measure
from cernvm.pilot.pilot_config import PilotConfig

DELIVERY_S = 30.0
FAREWELL_S = 2.0

log = logging.getLogger(__name__)

Event: TypeAlias = Callable[[float], list[Action]]
ExecuteJob: TypeAlias = Callable[[Order, Path], Awaitable[Ending]]


async def run_pilot(
    bus: Bus, config: PilotConfig, surroundings: Mapping[str, str], *, secret: Path
) -> None:
    """Fetch and run jobs until SIGTERM or SIGINT; then give back what is unfinished.

    `surroundings` is the environment whose few harmless variables jobs see; `secret` is the file that `config` was read
    from, which jobs cannot read where the machine allows that.
    """
    hidden: tuple[Path, ...] = (secret,)
    if not await can_hide(hidden[0]):
        log.warning("jobs.not_confined", extra=fields(readable=str(secret), uid=os.geteuid()))
        hidden = ()
    with work_area(config.work_base) as area:
        run = functools.partial(execute, surroundings=surroundings, hidden=hidden)
        pilot = _Pilot(bus, config.manager, area, run)
        async with _stop_on_signal(pilot.stop):
            await pilot.run()


class _Pilot:
    def __init__(self, bus: Bus, manager: str, area: Path, execute_job: ExecuteJob) -> None:
        self._bus = bus
        self._manager = manager
        self._area = area
        self._execute = execute_job
        self._dialogue = Dialogue(manager=manager, host=socket.gethostname())
        self._events, self._happened = anyio.create_memory_object_stream[Event](100)
        self._is_stopping = False
        self._folder = area
        self._doing = anyio.CancelScope()
        self._done = anyio.Event()
        self._done.set()

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._listen)
            await self._bus.announce(self._manager)
            await self._do(self._dialogue.start(anyio.current_time()))
            while not self._is_stopping:
                await self._turn()
            tasks.cancel_scope.cancel()
        self._events.close()
        self._happened.close()

    def stop(self, reason: str) -> None:
        """Give the job back and let `run` end."""

        def leave(_: float) -> list[Action]:
            self._is_stopping = True
            return self._dialogue.stop(reason)

        self._tell(leave)

    async def _turn(self) -> None:
        event: Event = self._dialogue.elapsed
        with anyio.move_on_after(max(0.0, self._dialogue.wake_at - anyio.current_time())):
            event = await self._happened.receive()
        try:
            await self._do(event(anyio.current_time()))
        except MessageFormatError as error:
            log.warning("message.malformed", extra=fields(error=error.what))

    async def _listen(self) -> None:
        async for item in self._bus.incoming():
            if isinstance(item, Message):
                await self._events.send(functools.partial(self._dialogue.received, item))

    async def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Say() if self._is_stopping:
                    await self._say(action, FAREWELL_S)
                case Say():
                    self._tasks.start_soon(self._say, action, DELIVERY_S)
                case Execute(order):
                    self._folder = Path(tempfile.mkdtemp(prefix="job-", dir=self._area))
                    self._begin(functools.partial(self._work, order))
                case Store():
                    self._begin(functools.partial(self._upload, action))
                case Drop():
                    await self._drop()

    async def _say(self, said: Say, deadline_s: float) -> None:
        try:
            await self._bus.send(said.recipient, said.command, said.fields, deadline_s=deadline_s)
        except CvmError as error:
            # the dialogue says what matters again
            log.warning("message.undelivered", extra=fields(command=said.command, error=error.what))

    def _begin(self, work: Callable[[Path], Awaitable[None]]) -> None:
        self._doing, self._done = anyio.CancelScope(), anyio.Event()
        self._tasks.start_soon(self._until_done, work, self._doing, self._done)

    async def _until_done(
        self,
        work: Callable[[Path], Awaitable[None]],
        doing: anyio.CancelScope,
        done: anyio.Event,
    ) -> None:
        try:
            with doing:
                await work(self._folder)
        finally:
            done.set()

    async def _drop(self) -> None:
        self._doing.cancel()
        await self._done.wait()
        if self._folder != self._area:
            await anyio.to_thread.run_sync(functools.partial(shutil.rmtree, self._folder, True))
            self._folder = self._area

    async def _work(self, order: Order, folder: Path) -> None:
        key = order.key
        log.info("job.started", extra=fields(job=key.job_id, command=order.command[0]))
        made: tuple[Output, ...] = ()
        try:
            ending = await self._execute(order, folder)
            if ending.is_good:
                made = await anyio.to_thread.run_sync(measure, folder / "work", order.outputs)
        except OSError as error:
            await self._broke(key, f"its work folder fails: {error.strerror}")
            return
        except CvmError as error:
            ending = Ending(key, is_good=False, reason=error.what)
        log.info("job.exited", extra=fields(job=key.job_id, code=ending.exit_code))
        program = order.command[0]
        if ending.exit_code in NOT_ITS_FAULT:
            await self._broke(key, ending.reason)
        elif not ending.is_good and await anyio.to_thread.run_sync(has_lost, program):
            await self._broke(key, f"a file system that {program} runs from is gone")
        else:
            await self._events.send(functools.partial(self._dialogue.exited, ending, made))

    async def _upload(self, action: Store, folder: Path) -> None:
        key = action.destination.key
        try:
            await _run_aside(Upload(action.destination, folder / "work", action.made))
        except CvmError as error:
            await self._broke(key, f"its outputs cannot be stored: {error.what}")
            return
        log.info("job.stored", extra=fields(job=key.job_id))
        await self._events.send(functools.partial(self._dialogue.stored, key))

    async def _broke(self, key: JobKey, reason: str) -> None:
        log.error("job.broke", extra=fields(job=key.job_id, reason=reason))
        await self._events.send(functools.partial(self._dialogue.broke, key, reason))

    def _tell(self, event: Event) -> None:
        self._tasks.start_soon(self._events.send, event)


async def _run_aside(upload: Upload) -> None:
    """Run an upload in a thread that is left behind, aborted, when this is cancelled or the process ends."""
    done = anyio.Event()
    failures: list[CvmError] = []
    token = anyio.lowlevel.current_token()

    def run() -> None:
        try:
            upload.run()
        except CvmError as error:
            failures.append(error)
        with suppress(anyio.RunFinishedError):
            anyio.from_thread.run_sync(done.set, token=token)

    threading.Thread(target=run, name="upload", daemon=True).start()
    try:
        await done.wait()
    finally:
        upload.abort()
    if failures:
        raise failures[0]


@asynccontextmanager
async def _stop_on_signal(stop: Callable[[str], None]) -> AsyncIterator[None]:
    async def watch() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                stop(f"its pilot was stopped ({number.name})")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()
