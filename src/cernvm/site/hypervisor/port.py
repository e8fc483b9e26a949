"""What a site asks of a hypervisor: start this instance, stop it, tell how it is, show its console.

A hypervisor knows nothing of users, images or quotas: it is given a `MachineSpec` and an address, and keeps an
instance's writable layer until it is told to discard it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from cernvm.core.errors import InvalidInputError
from cernvm.core.home import check_repository_name

CONSOLE_BYTES = 64 * 1024
INIT = ("/usr/sbin/cernvm-init",)

_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_HOSTNAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_HOSTNAME_LIMIT = 64  # the kernel's, __NEW_UTS_LEN


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """All that decides how an instance comes up.

    Shape: `root` is the mounted tree of the operating system, never written to; each of `repositories` (name to mounted
    tree) appears read-only at `/cvmfs/NAME`; `init` is the argument list of process 1, a path of the instance.
    """

    instance_id: str
    hostname: str
    address: IPv4Address
    root: Path
    repositories: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    init: tuple[str, ...] = INIT

    def __post_init__(self) -> None:
        check_instance_id(self.instance_id)
        if len(self.hostname) > _HOSTNAME_LIMIT or not _HOSTNAME.fullmatch(self.hostname):
            raise InvalidInputError(f"{self.hostname!r} is no host name")
        if not self.root.is_absolute():
            raise InvalidInputError(f"the root {self.root} is not an absolute path")
        for name, path in self.repositories.items():
            check_repository_name(name)
            if not path.is_absolute():
                raise InvalidInputError(f"the mount of {name}, {path}, is not an absolute path")
        if not self.init or not self.init[0].startswith("/"):
            raise InvalidInputError("init must begin with an absolute path")
        if any("\0" in argument for argument in self.init):
            raise InvalidInputError("an argument of init contains a NUL character")


class Phase(Enum):
    """Where a machine stands in its life, as the hypervisor sees it."""

    RUNNING = "running"
    STOPPED = "stopped"  # by request, or its init ended with status 0
    FAILED = "failed"  # its init ended otherwise, or was killed


@dataclass(frozen=True, slots=True)
class MachineState:
    """How a machine is; `reason` says in one sentence why it no longer runs."""

    phase: Phase
    reason: str = ""

    @property
    def is_running(self) -> bool:
        """Whether its process 1 lives."""
        return self.phase is Phase.RUNNING


class Hypervisor(Protocol):
    """Runs machines that end with the process that owns this hypervisor.

    Errors: an unknown instance is `NotFoundError`. Concurrency: every verb may be called at any time from the loop;
    verbs about one instance take turns.
    """

    async def start(self, spec: MachineSpec) -> None:
        """Bring a machine up, with the writable layer it had before if there is one; returns when init runs.

        Errors: `ExistsError` while it runs; `PrerequisiteError`, `SpaceError`, `DeadlineError` or another
        `UnavailableError` naming the step that failed, after which nothing of the machine is left but its layer.
        """

    async def stop(self, instance_id: str, *, grace_s: float) -> None:
        """Ask init to end (SIGTERM), end everything after `grace_s`; returns when nothing of it runs any more.

        Stopping a machine that does not run is no error; its layer and console stay.
        """

    async def state(self, instance_id: str) -> MachineState:
        """How the machine is now; quick, so that a site may ask often."""

    async def console(self, instance_id: str) -> bytes:
        """The last `CONSOLE_BYTES` that init and what it started wrote, also after the end."""

    async def discard(self, instance_id: str) -> None:
        """Forget a machine, stopping it at once if it runs, and delete its layer; unknown ones are no error."""

    async def sweep(self, keep: Collection[str]) -> tuple[str, ...]:
        """Discard every machine, also one left by an earlier site process, that is not in `keep`; returns their ids."""


def check_instance_id(instance_id: str) -> str:
    """The id itself, if it is `i-` and 8 to 17 hex digits: ids become folder names.

    Errors: `InvalidInputError`.
    """
    if not _INSTANCE_ID.fullmatch(instance_id):
        raise InvalidInputError(f"{instance_id[:80]!r} is no instance id")
    return instance_id
