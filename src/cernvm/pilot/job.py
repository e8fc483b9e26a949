"""A job: a command to run once, somewhere, with declared outputs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from cernvm.core.errors import InvalidInputError

MAX_ATTEMPTS = 3
LEASE_S = 30.0
MAX_PART_BYTES = 32 * 1024  # three such parts fit into one message, however they are encoded
MAX_VARIABLES = 500
MAX_WALL_LIMIT_S = 30 * 86400.0  # docs/formats/messages.md; a pilot refuses more

_OUTPUT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=,-]{0,199}")
_VARIABLE = re.compile(r"(?!(?i:xml))[A-Za-z_][A-Za-z0-9_]{0,63}")
_PLACEHOLDER = re.compile(r"\{(id|index|seed)\}")


class JobState(Enum):
    """Where a job is in its life; the values are what people read."""

    WAITING = "waiting"
    LEASED = "leased"  # given to a pilot that has not said yet that it runs
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        """Whether a pilot holds it."""
        return self in (JobState.LEASED, JobState.RUNNING)

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Output:
    """One file a job made: its name, size and SHA-256 (hex)."""

    name: str
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not _OUTPUT_NAME.fullmatch(self.name) or self.size_bytes < 0:
            raise InvalidInputError(f"{self.name[:80]!r} is no output")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InvalidInputError(f"{self.sha256[:80]!r} is no SHA-256")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one pilot to work on a job until `until`.

    Shape: `fence` grows with every lease of the job, so that an old pilot's word is told from the present one's.
    """

    agent: str
    fence: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A job and all that is known of it.

    Shape: `outputs` are the file names it must leave in its folder; `declared` are the files the pilot said it made;
    `attempt` counts the leases that were used up; `agent` is the last pilot.
    """

    id: str
    name: str
    command: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    wall_limit_s: float = 24 * 3600.0
    state: JobState = JobState.WAITING
    attempt: int = 0
    fence: int = 0
    lease: Lease | None = None
    agent: str = ""
    declared: tuple[Output, ...] = ()
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    tail: str = ""

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise InvalidInputError("a job needs a command", advice="write it after --")
        _check_size("the command", self.command)
        _check_size("the environment", (*self.environment, *self.environment.values()))
        _check_size("the list of outputs", self.outputs)
        if len(self.environment) > MAX_VARIABLES:
            raise InvalidInputError(f"the environment has more than {MAX_VARIABLES} variables")
        if any("\0" in part for part in (*self.command, *self.environment.values())):
            raise InvalidInputError("a command or variable contains a zero byte")
        if not 0 < self.wall_limit_s <= MAX_WALL_LIMIT_S:
            raise InvalidInputError(
                f"a wall limit of {self.wall_limit_s:g} s is none",
                advice=f"give more than 0 and at most {MAX_WALL_LIMIT_S:.0f} seconds",
            )
        for name in self.outputs:
            if not _OUTPUT_NAME.fullmatch(name):
                raise InvalidInputError(
                    f"{name[:80]!r} is no output name",
                    advice="use letters, digits and . _ @ + = , -",
                )
        if len(set(self.outputs)) != len(self.outputs):
            raise InvalidInputError("an output is named twice")
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise InvalidInputError(f"{name[:80]!r} is no variable name")

    @property
    def folder(self) -> str:
        """Where in the storage this lease's outputs go; another lease's never collide with them."""
        return f"jobs/{self.id}/{self.fence}"

    def duration_s(self, now: datetime) -> float | None:
        """Seconds from the first start to the end, or until now."""
        if self.started_at is None:
            return None
        return max(timedelta(0), (self.ended_at or now) - self.started_at).total_seconds()


def make_jobs(
    *,
    count: int,
    name: str,
    command: tuple[str, ...],
    outputs: tuple[str, ...],
    environment: Mapping[str, str],
    first_seed: int,
    wall_limit_s: float,
    now: datetime,
) -> list[Job]:
    """Jobs from templates: `{id}`, `{index}` (from 0) and `{seed}` (from `first_seed`) are filled in everywhere."""
    jobs = []
    for index in range(count):
        job_id = str(uuid.uuid4())
        values = {"id": job_id, "index": str(index), "seed": str(first_seed + index)}
        jobs.append(
            Job(
                id=job_id,
                name=_fill(name, values),
                command=tuple(_fill(part, values) for part in command),
                outputs=tuple(_fill(part, values) for part in outputs),
                environment={key: _fill(value, values) for key, value in environment.items()},
                wall_limit_s=wall_limit_s,
                submitted_at=now,
            )
        )
    return jobs


def _check_size(part: str, texts: tuple[str, ...]) -> None:
    if sum(len(text.encode("utf-8", "replace")) for text in texts) > MAX_PART_BYTES:
        raise InvalidInputError(
            f"{part} has more than {MAX_PART_BYTES} bytes",
            advice="publish what is large, and name its path in /cvmfs",
        )


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
