"""The job agent: gives waiting jobs to pilots that ask, watches their leases, and checks what they deliver.

A job counts as done when the storage confirms every output that was declared. All it knows is in the queue, so it may
be killed at any moment and started again.
Source: docs/formats/messages.md, "Jobs".
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import (
    ConflictError,
    CvmError,
    DigestMismatchError,
    InvalidInputError,
    LeaseLostError,
    MessageFormatError,
    NotFoundError,
)
from cernvm.core.log import fields
from cernvm.messaging import Bus, Fields, Message, Presence
from cernvm.pilot import commands, lease
from cernvm.pilot.commands import JobKey
from cernvm.pilot.depot import Depot
from cernvm.pilot.job import LEASE_S, Job, JobState
from cernvm.pilot.port import Queue, SeenAgent

LOOK_EVERY_S = 0.5
ABSENCE_S = 10.0
DELIVERY_S = 20.0
AT_ONCE = 32
STALE = timedelta(minutes=5)

ACTIVE = (JobState.LEASED, JobState.RUNNING)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class JobsAgent:
    """One job agent on the bus; several may share a queue."""

    queue: Queue
    bus: Bus
    depot: Depot
    lease_s: float = LEASE_S
    absence_s: float = ABSENCE_S
    clock: Clock = field(default_factory=SystemClock)
    _line: dict[str, str] = field(
        default_factory=dict
    )  # pilots that asked when no job waited: address to host
    _checking: set[JobKey] = field(default_factory=set)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._take_up()
        limit = anyio.Semaphore(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_after_leases, tasks)
            async for item in self.bus.incoming():
                await limit.acquire()
                tasks.start_soon(self._handle, item, limit)
            tasks.cancel_scope.cancel()

    async def _take_up(self) -> None:
        """Go on where the last job agent ended: its pilots keep their jobs, the idle ones are in line."""
        now = self.clock.now()
        extend = functools.partial(lease.extend, now=now, lease_s=self.lease_s)
        for job in await self._active():
            await self._change(job.id, extend)
        for seen in await anyio.to_thread.run_sync(self.queue.agents):
            if seen.is_present and now - seen.seen_at < STALE:
                self._line[seen.address] = seen.host

    async def _look_after_leases(self, tasks: TaskGroup) -> None:
        while True:
            try:
                await self._expire_leases()
                await self._offer_to_line(tasks)
            except CvmError as error:
                log.warning("queue.unavailable", extra=fields(error=error.what))
            await anyio.sleep(LOOK_EVERY_S)

    async def _expire_leases(self) -> None:
        now = self.clock.now()
        for job in await self._active():
            if job.lease is not None and job.lease.until <= now:
                changed = await self._change(job.id, functools.partial(lease.expire, now=now))
                log.warning(
                    "job.returned",
                    extra=fields(job=job.id, agent=job.agent, state=changed.state.value),
                )

    async def _offer_to_line(self, tasks: TaskGroup) -> None:
        if not self._line:
            return
        waiting = await self._jobs(states=(JobState.WAITING,))
        for address in list(self._line)[: len(waiting)]:
            del self._line[address]
            tasks.start_soon(self._say, address, commands.HAVE_JOB, {})

    async def _handle(self, item: Message | Presence, limit: anyio.Semaphore) -> None:
        try:
            if isinstance(item, Presence):
                await self._note_presence(item)
            elif item.command in _HANDLERS:
                await _HANDLERS[item.command](self, item)
        except MessageFormatError as error:
            log.warning("message.malformed", extra=fields(sender=_sender(item), error=error.what))
        except CvmError as error:
            # unanswered, so the pilot says it again; whatever it is, it is no reason to leave all other pilots
            log.warning("message.unanswered", extra=fields(sender=_sender(item), error=error.what))
        finally:
            limit.release()

    async def _note_presence(self, presence: Presence) -> None:
        await self._see(presence.peer, "", is_present=presence.is_available)
        if presence.is_available:
            return
        self._line.pop(presence.peer, None)
        rule = functools.partial(
            lease.shorten, agent=presence.peer, now=self.clock.now(), grace_s=self.absence_s
        )
        for job in await self._active():
            if job.lease is not None and job.lease.agent == presence.peer:
                await self._change(job.id, rule)

    async def _want_job(self, message: Message) -> None:
        host = commands.read_host(message)
        await self._see(message.sender, host)
        if await self._jobs(states=(JobState.WAITING,)):
            await self._say(message.sender, commands.HAVE_JOB, {})
        else:
            self._line[message.sender] = host

    async def _get_job(self, message: Message) -> None:
        host = commands.read_host(message)
        await self._see(message.sender, host)
        claim = functools.partial(self.queue.claim, message.sender, lease_s=self.lease_s)
        job = await anyio.to_thread.run_sync(claim)
        if job is None:
            self._line[message.sender] = host
            await self._say(message.sender, commands.NO_JOB, {})
            return
        log.info("job.given", extra=fields(job=job.id, agent=message.sender, attempt=job.attempt))
        order = commands.order_fields(job, lease_s=self.lease_s)
        if not await self._say(message.sender, commands.RUN_JOB, order):
            await self._take_back(job)

    async def _job_running(self, message: Message) -> None:
        key = commands.read_key(message)
        await self._see(message.sender, commands.read_host(message))
        rule = functools.partial(
            lease.renew, fence=key.fence, now=self.clock.now(), lease_s=self.lease_s
        )
        await self._apply(message, key, rule)

    async def _get_output_dir(self, message: Message) -> None:
        key = commands.read_key(message)
        now = self.clock.now()
        made = commands.read_declaration(message)
        rule = functools.partial(
            lease.declare, fence=key.fence, made=made, now=now, lease_s=self.lease_s
        )
        if (job := await self._apply(message, key, rule)) is not None:
            destination = commands.destination_fields(self.depot.destination(job, now=now))
            await self._say(message.sender, commands.STORE_OUTPUT_DIR, destination)

    async def _job_done(self, message: Message) -> None:
        ending = commands.read_ending(message)
        if ending.key in self._checking:
            return
        self._checking.add(ending.key)
        try:
            if ending.is_good:
                accepted = await self._complete(message, ending.key)
            else:
                rule = functools.partial(
                    lease.fail,
                    fence=ending.key.fence,
                    exit_code=ending.exit_code,
                    reason=ending.reason,
                    tail=ending.tail,
                    now=self.clock.now(),
                )
                accepted = await self._apply(message, ending.key, rule)
        finally:
            self._checking.discard(ending.key)
        if accepted is not None:
            log.info("job.ended", extra=fields(job=accepted.id, state=accepted.state.value))
            await self._say(message.sender, commands.JOB_ACCEPTED, ending.key.to_fields())

    async def _give_back(self, message: Message) -> None:
        key = commands.read_key(message)
        rule = functools.partial(
            lease.give_back,
            fence=key.fence,
            reason=message.text("reason", "given back"),
            counts=message.text("counts", "1") != "0",
            now=self.clock.now(),
        )
        try:
            await self._change(key.job_id, _spoken_by(message.sender, rule))
        except (ConflictError, NotFoundError) as error:
            log.info("job.late", extra=fields(job=key.job_id, error=error.what))

    async def _complete(self, message: Message, key: JobKey) -> Job | None:
        """Check the outputs, then count the job as done; a job whose outputs are not right goes back."""
        now = self.clock.now()
        complete = functools.partial(lease.complete, fence=key.fence, now=now)
        found = await self._jobs(ids=(key.job_id,))
        if found and _needs_check(found[0], message.sender, key):
            check = functools.partial(self.depot.check, found[0], now=now)
            try:
                await anyio.to_thread.run_sync(check)
            except (NotFoundError, DigestMismatchError) as error:
                log.warning("job.outputs.wrong", extra=fields(job=key.job_id, error=error.what))
                back = functools.partial(
                    lease.give_back, fence=key.fence, reason=error.what, counts=True, now=now
                )
                if await self._apply(message, key, back) is not None:
                    await self._drop(message.sender, key, error.what)
                return None
        return await self._apply(message, key, complete)

    async def _apply(self, message: Message, key: JobKey, rule: Callable[[Job], Job]) -> Job | None:
        """Change the job, or tell the pilot to drop it when it may not speak for it any more."""
        try:
            return await self._change(key.job_id, _spoken_by(message.sender, rule))
        except (ConflictError, NotFoundError, InvalidInputError) as error:
            log.warning(
                "job.refused",
                extra=fields(job=key.job_id, agent=message.sender, error=error.what),
            )
            await self._drop(message.sender, key, error.what)
            return None

    async def _drop(self, address: str, key: JobKey, reason: str) -> None:
        await self._say(address, commands.DROP_JOB, key.to_fields(reason=reason[:500]))

    async def _take_back(self, job: Job) -> None:
        """A job whose order never arrived was not tried."""
        rule = functools.partial(
            lease.give_back,
            fence=job.fence,
            reason=f"{job.agent} did not take it",
            counts=False,
            now=self.clock.now(),
        )
        try:
            await self._change(job.id, rule)
        except ConflictError as error:
            log.info("job.late", extra=fields(job=job.id, error=error.what))

    async def _say(self, address: str, command: str, values: Fields) -> bool:
        """Whether the pilot acknowledged the command."""
        try:
            await self.bus.send(address, command, values, deadline_s=DELIVERY_S)
        except CvmError as error:
            log.warning(
                "message.undelivered",
                extra=fields(recipient=address, command=command, error=error.what),
            )
            return False
        return True

    async def _see(self, address: str, host: str, *, is_present: bool = True) -> None:
        seen = SeenAgent(address, host, self.clock.now(), is_present)
        await anyio.to_thread.run_sync(self.queue.see_agent, seen)

    async def _active(self) -> list[Job]:
        return await self._jobs(states=ACTIVE)

    async def _jobs(
        self, *, states: tuple[JobState, ...] = (), ids: tuple[str, ...] = ()
    ) -> list[Job]:
        look = functools.partial(self.queue.jobs, states=states, ids=ids)
        return await anyio.to_thread.run_sync(look)

    async def _change(self, job_id: str, rule: Callable[[Job], Job]) -> Job:
        return await anyio.to_thread.run_sync(self.queue.change, job_id, rule)


def _spoken_by(sender: str, rule: Callable[[Job], Job]) -> Callable[[Job], Job]:
    """A rule that only the job's own pilot may apply: they share an account, not their jobs."""

    def checked(job: Job) -> Job:
        if job.agent != sender:
            raise LeaseLostError(f"job {job.id} is not {sender}'s")
        return rule(job)

    return checked


def _needs_check(job: Job, sender: str, key: JobKey) -> bool:
    return job.state is not JobState.DONE and (job.agent, job.fence) == (sender, key.fence)


def _sender(item: Message | Presence) -> str:
    return item.peer if isinstance(item, Presence) else item.sender


_HANDLERS = {
    commands.WANT_JOB: JobsAgent._want_job,  # noqa: SLF001
    commands.GET_JOB: JobsAgent._get_job,  # noqa: SLF001
    commands.JOB_RUNNING: JobsAgent._job_running,  # noqa: SLF001
    commands.GET_OUTPUT_DIR: JobsAgent._get_output_dir,  # noqa: SLF001
    commands.JOB_DONE: JobsAgent._job_done,  # noqa: SLF001
    commands.GIVE_BACK: JobsAgent._give_back,  # noqa: SLF001
}
