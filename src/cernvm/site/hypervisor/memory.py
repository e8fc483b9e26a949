"""The hypervisor's twin: machines that exist only as values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from cernvm.core.errors import CvmError, ExistsError, NotFoundError
from cernvm.site.hypervisor.port import (
    CONSOLE_BYTES,
    MachineSpec,
    MachineState,
    Phase,
    check_instance_id,
)


@dataclass(slots=True)
class Machine:
    """One machine of the twin."""

    spec: MachineSpec
    state: MachineState
    console: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class MemoryHypervisor:
    """Keeps the promises of `Hypervisor` without starting anything; tests reach in to make machines fail.

    `fail_next` is raised by the next `start`; `end` lets a machine's init end by itself; `write` is its output.
    """

    machines: dict[str, Machine] = field(default_factory=dict)
    fail_next: CvmError | None = None

    async def start(self, spec: MachineSpec) -> None:
        known = self.machines.get(spec.instance_id)
        if known is not None and known.state.is_running:
            raise ExistsError("running instance", spec.instance_id)
        if (error := self.fail_next) is not None:
            self.fail_next = None
            raise error
        self.machines[spec.instance_id] = Machine(spec, MachineState(Phase.RUNNING))
        self.write(spec.instance_id, f"{spec.hostname} runs {' '.join(spec.init)}\n".encode())

    async def stop(self, instance_id: str, *, grace_s: float) -> None:  # noqa: ARG002  # ends at once
        machine = self._machine(instance_id)
        if machine.state.is_running:
            machine.state = MachineState(Phase.STOPPED, "stopped by request")

    async def state(self, instance_id: str) -> MachineState:
        return self._machine(instance_id).state

    async def console(self, instance_id: str) -> bytes:
        return bytes(self._machine(instance_id).console[-CONSOLE_BYTES:])

    async def discard(self, instance_id: str) -> None:
        self.machines.pop(check_instance_id(instance_id), None)

    async def sweep(self, keep: Collection[str]) -> tuple[str, ...]:
        gone = tuple(sorted(set(self.machines) - set(keep)))
        for instance_id in gone:
            await self.discard(instance_id)
        return gone

    def end(self, instance_id: str, *, status: int = 0) -> None:
        """Let the machine's init end by itself with an exit status."""
        phase = Phase.STOPPED if status == 0 else Phase.FAILED
        self._machine(instance_id).state = MachineState(phase, f"init ended with status {status}")

    def write(self, instance_id: str, output: bytes) -> None:
        """Add to the machine's console."""
        self._machine(instance_id).console += output

    def _machine(self, instance_id: str) -> Machine:
        try:
            return self.machines[check_instance_id(instance_id)]
        except KeyError:
            raise NotFoundError("instance", instance_id) from None
