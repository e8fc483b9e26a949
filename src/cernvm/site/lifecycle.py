"""Bringing what runs in line with what is wanted: each instance's way from pending to terminated.

What is wanted lies in `SiteState`; what runs, the hypervisor knows. A turn of the loop compares the two and starts, for
each instance that needs it, one task that takes it one state further. A turn comes when the API wakes the loop, and
every `POLL_S`. Nothing is remembered here that a restart of the site would lose.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import anyio.abc
from anyio import to_thread

from cernvm.core.errors import ConflictError, CvmError, DeadlineError, ExistsError, NotFoundError
from cernvm.core.log import fields
from cernvm.site.hypervisor.port import Hypervisor, MachineSpec, MachineState, Phase
from cernvm.site.instance import (
    BY_ITSELF,
    SITE_RESTART,
    Image,
    Instance,
    Reason,
    State,
    failed,
)
from cernvm.site.state import SiteState
from cernvm.site.trees import Trees

log = logging.getLogger(__name__)

POLL_S = 1.0
START_DEADLINE_S = 120.0
STOP_GRACE_S = 5.0
STOP_DEADLINE_S = 30.0
STARTS_AT_ONCE = 4
FORGET_EVERY_S = 60.0


@dataclass(slots=True)
class Lifecycle:
    """The site's supervisor.

    Shape: `repositories` are the names that every instance gets at /cvmfs.
    Concurrency: one per site, on the loop; `wake` from the loop too.
    """

    state: SiteState
    hypervisor: Hypervisor
    trees: Trees
    repositories: tuple[str, ...] = ()
    _busy: set[str] = field(default_factory=set)
    # by instance: the generations of the mounts it was started with
    _generations: dict[str, dict[str, int]] = field(default_factory=dict)
    _woken: anyio.Event = field(default_factory=anyio.Event)
    _starts: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(STARTS_AT_ONCE)
    )
    _last_error: str = ""

    async def resume(self) -> None:
        """After a start of the site: nothing runs, whatever the database says; call before `run`."""
        live = await to_thread.run_sync(lambda: self.state.instances(live=True))
        for instance in live:
            if instance.state is State.RUNNING:
                await self._move(instance, State.PENDING, SITE_RESTART)
        swept = await self.hypervisor.sweep([instance.instance_id for instance in live])
        log.info("site.resumed", extra=fields(instances=len(live), swept=len(swept)))

    async def run(self) -> None:
        """Supervise until cancelled; what ran then stays wanted, and the next site starts it again."""
        async with anyio.create_task_group() as tasks:
            forget_at = time.monotonic()
            while True:
                self._woken = anyio.Event()
                await self._turn(tasks)
                if time.monotonic() >= forget_at:
                    await self._guarded(self._forget)
                    forget_at = time.monotonic() + FORGET_EVERY_S
                with anyio.move_on_after(POLL_S):
                    await self._woken.wait()

    def wake(self) -> None:
        """Have the next turn come now."""
        self._woken.set()

    async def console(self, instance: Instance) -> bytes:
        """The last part of an instance's console, of one that ended too."""
        if instance.is_live:
            try:
                return await self.hypervisor.console(instance.instance_id)
            except NotFoundError:
                return b""  # not started yet
        return await to_thread.run_sync(self.state.console, instance.instance_id)

    async def _turn(self, tasks: anyio.abc.TaskGroup) -> None:
        async def look() -> None:
            for instance in await to_thread.run_sync(lambda: self.state.instances(live=True)):
                if instance.instance_id not in self._busy:
                    self._busy.add(instance.instance_id)
                    tasks.start_soon(self._advance, instance)

        await self._guarded(look)

    async def _advance(self, instance: Instance) -> None:
        """Take one instance one state further; a trouble with it is its own, never the site's."""
        try:
            await self._guarded(
                lambda: self._step(instance.instance_id), instance_id=instance.instance_id
            )
        finally:
            self._busy.discard(instance.instance_id)

    async def _step(self, instance_id: str) -> None:
        # read anew: the turn's view may be older than this instance's last task
        instance = await to_thread.run_sync(self.state.instance, instance_id)
        if instance.state is State.PENDING:
            async with self._starts:
                await self._start(instance)
        elif instance.state is State.SHUTTING_DOWN:
            await self._end(instance, instance.reason)
        elif instance.state is State.RUNNING:
            await self._watch(instance)

    async def _start(self, instance: Instance) -> None:
        began = time.monotonic()
        try:
            with anyio.fail_after(START_DEADLINE_S):
                spec, generations = await self._spec(instance)
                await self.hypervisor.start(spec)
            self._generations[instance.instance_id] = generations
        except ExistsError:
            # an earlier turn started it, and the database did not answer then
            log.info("instance.found_running", extra=fields(instance=instance.instance_id))
        except TimeoutError:
            await self._end(
                instance, failed(DeadlineError("starting it", after_s=START_DEADLINE_S).what)
            )
            return
        except CvmError as error:
            log.warning(
                "instance.failed", extra=fields(instance=instance.instance_id, error=error.what)
            )
            await self._end(instance, failed(error.what))
            return
        await self._move(instance, State.RUNNING)
        took_s = round(time.monotonic() - began, 3)
        log.info("instance.running", extra=fields(instance=instance.instance_id, took_s=took_s))

    async def _spec(self, instance: Instance) -> tuple[MachineSpec, dict[str, int]]:
        """What to start, and the generations of the mounts in it."""
        image = await to_thread.run_sync(self._image, instance.image_id)
        names = {image.repository, *self.repositories}
        mounts = {name: await self.trees.mounted(name) for name in sorted(names)}
        spec = MachineSpec(
            instance_id=instance.instance_id,
            hostname=instance.hostname,
            address=instance.address,
            root=mounts[image.repository].path,
            repositories={name: mounts[name].path for name in self.repositories},
        )
        return spec, {name: mount.generation for name, mount in mounts.items()}

    def _image(self, image_id: str) -> Image:
        for image, _ in self.state.images():
            if image.image_id == image_id:
                return image
        raise NotFoundError("image", image_id)

    async def _watch(self, instance: Instance) -> None:
        try:
            machine = await self.hypervisor.state(instance.instance_id)
        except NotFoundError:  # its end was seen, and the database did not answer then
            machine = MachineState(Phase.STOPPED, "nothing of it is left")
        if not machine.is_running:
            log.info(
                "instance.ended", extra=fields(instance=instance.instance_id, why=machine.reason)
            )
            await self._end(instance, Reason(BY_ITSELF.code, f"{BY_ITSELF.text}: {machine.reason}"))
            return
        for name, generation in self._generations.get(instance.instance_id, {}).items():
            if (await self.trees.mounted(name)).generation != generation:
                await self._restart(instance, f"the repository {name} was mounted anew")
                return

    async def _restart(self, instance: Instance, why: str) -> None:
        """It holds a dead mount: stop it; the next turn starts it with its id, address and layer."""
        log.warning("instance.restarting", extra=fields(instance=instance.instance_id, why=why))
        await self.hypervisor.stop(instance.instance_id, grace_s=STOP_GRACE_S)
        await self._move(instance, State.PENDING, failed(why))

    async def _end(self, instance: Instance, reason: Reason | None) -> None:
        """Stop it, keep the end of its console, delete its layer, and only then say so."""
        instance_id = instance.instance_id
        console = b""
        try:
            with anyio.fail_after(STOP_DEADLINE_S):
                try:
                    await self.hypervisor.stop(instance_id, grace_s=STOP_GRACE_S)
                    console = await self.hypervisor.console(instance_id)
                except NotFoundError:
                    pass  # it never came up
                await self.hypervisor.discard(instance_id)
        except TimeoutError:
            raise DeadlineError(f"ending {instance_id}", after_s=STOP_DEADLINE_S) from None
        self._generations.pop(instance_id, None)
        await self._move(instance, State.TERMINATED, reason, console)
        log.info("instance.terminated", extra=fields(instance=instance_id))

    async def _move(
        self,
        instance: Instance,
        state: State,
        reason: Reason | None = None,
        console: bytes = b"",
    ) -> None:
        try:
            await to_thread.run_sync(
                lambda: self.state.move(instance.instance_id, state, reason=reason, console=console)
            )
        except ConflictError:
            # its owner asked for its end meanwhile; the next turn sees that
            log.debug("instance.overtaken", extra=fields(instance=instance.instance_id))

    async def _forget(self) -> None:
        await to_thread.run_sync(self.state.forget_terminated)

    async def _guarded(self, act: Callable[[], Awaitable[None]], *, instance_id: str = "") -> None:
        """Do it; what goes wrong is logged once, and tried again at a later turn."""
        try:
            await act()
        except CvmError as error:
            if error.what != self._last_error:
                log.warning(
                    "site.turn.failed", extra=fields(instance=instance_id, error=error.what)
                )
            self._last_error = error.what
