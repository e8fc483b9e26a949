"""Instances as containers: namespaces of this kernel, with the operating system's tree as their root.

Each instance has a folder below the hypervisor's own, named by its id: `upper` and `work` (the writable layer),
`console.log`, and `lower` and `root`, empty outside the instance. Decision: docs/decisions/container-hypervisor.md.
"""

from __future__ import annotations

import logging
import os
import subprocess
import uuid
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio import to_thread

from cernvm.core.errors import ConflictError, CvmError, ExistsError, NotFoundError
from cernvm.core.home import ensure_folder
from cernvm.core.lock import take_lock
from cernvm.core.log import fields
from cernvm.site.hypervisor.keeper import (
    Container,
    Launcher,
    spawn_launcher,
    start_container,
)
from cernvm.site.hypervisor.port import (
    CONSOLE_BYTES,
    MachineSpec,
    MachineState,
    Phase,
    check_instance_id,
)
from cernvm.site.network import SiteNetwork

CLOSE_GRACE_S = 3.0  # a service ends within 5 s of being asked
_DELETE_TIMEOUT_S = 300.0
_DISCARDED = ".discarded-"

log = logging.getLogger(__name__)


class ContainerHypervisor:
    """Runs instances on this machine; `async with` stops them all at the end, and the kernel does so at a crash.

    Concurrency: one loop. Launchers are started by one thread that lives as long as this object: the kernel ties an
    instance's life to that very thread.
    """

    def __init__(self, folder: Path, network: SiteNetwork) -> None:
        """Take possession of `folder`, where the layers are.

        Errors: `ConflictError` while another process runs instances there.
        """
        self._folder = ensure_folder(folder, mode=0o700)
        self._network = network
        in_use = ConflictError(
            f"another site runs instances in {folder}", advice="stop it, or choose another CVM_HOME"
        )
        self._lock_file = take_lock(self._folder / ".lock", in_use)
        self._launching = ThreadPoolExecutor(1, "hypervisor-launch")
        self._containers: dict[str, Container] = {}
        self._turns: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop every instance, within `CLOSE_GRACE_S` and a little; layers and consoles stay."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for instance_id in list(self._containers):
                    group.start_soon(self._stop_at_close, instance_id)
            await to_thread.run_sync(self._launching.shutdown)
            os.close(self._lock_file)

    async def start(self, spec: MachineSpec) -> None:
        async with self._turns[spec.instance_id]:
            running = self._containers.get(spec.instance_id)
            if running is not None and running.state.is_running:
                raise ExistsError("running instance", spec.instance_id)
            folder = self._folder / spec.instance_id
            self._containers[spec.instance_id] = await to_thread.run_sync(
                partial(
                    start_container,
                    spec,
                    folder,
                    spawn=self._spawn,
                    attach=lambda namespace: self._network.attach(namespace, spec.address),
                    console=folder / "console.log",
                )
            )
            log.info("instance.started", extra=fields(instance=spec.instance_id))

    async def stop(self, instance_id: str, *, grace_s: float) -> None:
        self._find(instance_id)
        async with self._turns[instance_id]:
            container = self._containers.get(instance_id)
            if container is not None:
                await to_thread.run_sync(partial(container.stop, grace_s=grace_s))
                log.info("instance.stopped", extra=fields(instance=instance_id))

    async def state(self, instance_id: str) -> MachineState:
        self._find(instance_id)
        container = self._containers.get(instance_id)
        if container is None:
            return MachineState(Phase.STOPPED, "not started since the site began")
        return container.state

    async def console(self, instance_id: str) -> bytes:
        return await to_thread.run_sync(_read_end, self._find(instance_id) / "console.log")

    async def discard(self, instance_id: str) -> None:
        folder = self._folder / check_instance_id(instance_id)
        async with self._turns[instance_id]:
            if (container := self._containers.get(instance_id)) is not None:
                await to_thread.run_sync(partial(container.stop, grace_s=0))
                del self._containers[instance_id]
            await to_thread.run_sync(_delete, folder)
        if not self._turns[instance_id].locked():  # by who waited for us
            del self._turns[instance_id]

    async def sweep(self, keep: Collection[str]) -> tuple[str, ...]:
        gone = []
        for folder in sorted(self._folder.iterdir()):
            if folder.name.startswith(_DISCARDED):
                await to_thread.run_sync(_delete, folder)
            elif folder.is_dir() and folder.name not in keep:
                await self.discard(folder.name)
                gone.append(folder.name)
        return tuple(gone)

    async def _stop_at_close(self, instance_id: str) -> None:
        try:
            await self.stop(instance_id, grace_s=CLOSE_GRACE_S)
        except CvmError as error:  # the end of the launching thread ends it all the same
            log.warning("instance.not_stopped", extra=fields(instance=instance_id, error=error))

    def _spawn(self, command: list[str], descriptor: int, log_path: Path) -> Launcher:
        return self._launching.submit(spawn_launcher, command, descriptor, log_path).result()

    def _find(self, instance_id: str) -> Path:
        folder = self._folder / check_instance_id(instance_id)
        if not folder.is_dir():
            raise NotFoundError("instance", instance_id)
        return folder


def _read_end(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(max(0, size_bytes - CONSOLE_BYTES))
            return file.read(CONSOLE_BYTES)
    except FileNotFoundError:
        return b""


def _delete(folder: Path) -> None:
    """Delete an instance's folder; by a name that a later `sweep` finds, should this be interrupted."""
    if not folder.exists():
        return
    doomed = folder
    if not folder.name.startswith(_DISCARDED):
        doomed = folder.rename(folder.with_name(f"{_DISCARDED}{uuid.uuid4().hex}"))
    # rm walks trees of any depth that an instance may have made; shutil.rmtree recurses
    command = ["rm", "-rf", "--one-file-system", "--", str(doomed)]
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DELETE_TIMEOUT_S,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        log.warning("layer.left", extra=fields(folder=doomed, error=error))
