"""The messages between the job agent and its pilots, as values.

Names and fields are the original Co-Pilot's where it has them; `jmJobData`, which a pilot echoes without looking at it,
carries the lease's fence. Whatever does not fit is a `MessageFormatError`.
Source: docs/formats/messages.md, "Jobs".
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cernvm.core.errors import InvalidInputError, MessageFormatError
from cernvm.messaging.message import Fields, Message, group_field, text_field
from cernvm.pilot.job import Job, Output

WANT_JOB = "want_getJob"
HAVE_JOB = "have_getJob"
GET_JOB = "getJob"
NO_JOB = "noJob"
RUN_JOB = "runJob"
JOB_RUNNING = "jobRunning"
GET_OUTPUT_DIR = "getJobOutputDir"
STORE_OUTPUT_DIR = "storeJobOutputDir"
JOB_DONE = "jobDone"
JOB_ACCEPTED = "jobAccepted"
DROP_JOB = "dropJob"
GIVE_BACK = "giveBack"

MAX_HOST = 255
_SEPARATOR = "###"


@dataclass(frozen=True, slots=True)
class JobKey:
    """Which lease of which job a message is about."""

    job_id: str
    fence: int

    def to_fields(self, **more: str) -> dict[str, str | Fields]:
        """The fields every message about a job begins with."""
        return {"jobID": self.job_id, "jmJobData": str(self.fence), **more}


@dataclass(frozen=True, slots=True)
class Order:
    """What `runJob` tells a pilot to do."""

    key: JobKey
    command: tuple[str, ...]
    environment: Mapping[str, str]
    outputs: tuple[str, ...]
    wall_limit_s: float
    lease_s: float


@dataclass(frozen=True, slots=True)
class Destination:
    """Where `storeJobOutputDir` lets a pilot put a job's outputs; the token never prints."""

    key: JobKey
    url: str
    folder: str
    token: str

    def __repr__(self) -> str:
        return f"Destination({self.key}, {self.url}, {self.folder})"


@dataclass(frozen=True, slots=True)
class Ending:
    """How `jobDone` says a job ended: well, or with an exit code, a reason and the last lines it wrote."""

    key: JobKey
    is_good: bool
    exit_code: int = 0
    reason: str = ""
    tail: str = ""


def read_key(message: Message) -> JobKey:
    """The job and lease that any message about a job names."""
    return JobKey(message.text("jobID"), _integer(message.text("jmJobData"), "jmJobData"))


def read_host(message: Message) -> str:
    """The name of the host a pilot says it is on, made harmless."""
    host = message.text("agentHost", "")[:MAX_HOST]
    return "".join(letter for letter in host if letter.isprintable())


def order_fields(job: Job, *, lease_s: float) -> Fields:
    """`runJob` for a job that was just given out."""
    return {
        "jmJobData": str(job.fence),
        "job": {
            "id": job.id,
            "command": job.command[0],
            "arguments": shlex.join(job.command[1:]),
            "outputFiles": _SEPARATOR.join(job.outputs),
            "environment": dict(job.environment),
            "wallLimit": f"{job.wall_limit_s:g}",
            "lease": f"{lease_s:g}",
        },
    }


def read_order(message: Message) -> Order:
    """What a `runJob` message orders."""
    job = message.group("job")
    names = text_field(job, "outputFiles", "")
    try:
        arguments = shlex.split(text_field(job, "arguments", ""))
    except ValueError as error:
        raise MessageFormatError(str(error), where=RUN_JOB, field="arguments") from None
    environment = group_field(job, "environment")
    # the same checks as for a job of our own: names become files, variables and arguments
    try:
        checked = Job(
            id=text_field(job, "id"),
            name="",
            command=(text_field(job, "command"), *arguments),
            outputs=tuple(names.split(_SEPARATOR)) if names else (),
            environment={name: text_field(environment, name) for name in environment},
            wall_limit_s=_seconds(text_field(job, "wallLimit", "86400"), "wallLimit"),
        )
    except InvalidInputError as error:
        raise MessageFormatError(error.what, where=RUN_JOB) from None
    return Order(
        JobKey(checked.id, _integer(message.text("jmJobData"), "jmJobData")),
        checked.command,
        checked.environment,
        checked.outputs,
        checked.wall_limit_s,
        _seconds(text_field(job, "lease", "30"), "lease"),
    )


def declaration_fields(key: JobKey, host: str, made: Sequence[Output]) -> Fields:
    """`getJobOutputDir`: what was made, said before any of it is stored."""
    files: dict[str, str | Fields] = {
        f"f{number}": {
            "name": output.name,
            "size": str(output.size_bytes),
            "sha256": output.sha256,
        }
        for number, output in enumerate(made)
    }
    return {**key.to_fields(agentHost=host), "outputs": files}


def read_declaration(message: Message) -> tuple[Output, ...]:
    """The outputs that a `getJobOutputDir` declares."""
    files = message.group("outputs")
    made = []
    for name in files:
        file = group_field(files, name)
        size = _integer(text_field(file, "size"), "size")
        try:
            made.append(Output(text_field(file, "name"), size, text_field(file, "sha256")))
        except InvalidInputError as error:
            raise MessageFormatError(error.what, where=GET_OUTPUT_DIR) from None
    return tuple(made)


def destination_fields(destination: Destination) -> Fields:
    """`storeJobOutputDir`."""
    return destination.key.to_fields(
        outputUrl=destination.url, outputDir=destination.folder, token=destination.token
    )


def read_destination(message: Message) -> Destination:
    """Where a `storeJobOutputDir` sends the outputs."""
    return Destination(
        read_key(message),
        message.text("outputUrl"),
        message.text("outputDir"),
        message.text("token"),
    )


def ending_fields(ending: Ending, host: str) -> Fields:
    """`jobDone`."""
    return ending.key.to_fields(
        agentHost=host,
        state="done" if ending.is_good else "failed",
        exitCode=str(ending.exit_code),
        reason=ending.reason,
        tail=ending.tail,
    )


def read_ending(message: Message) -> Ending:
    """How a `jobDone` says the job ended."""
    state = message.text("state")
    if state not in ("done", "failed"):
        raise MessageFormatError(f"{state[:40]!r} is no end", where=JOB_DONE, field="state")
    return Ending(
        read_key(message),
        is_good=state == "done",
        exit_code=_integer(message.text("exitCode", "0"), "exitCode"),
        reason=message.text("reason", ""),
        tail=message.text("tail", ""),
    )


def _integer(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise MessageFormatError(f"{text[:40]!r} is no number", field=field)
    return int(text)


def _seconds(text: str, field: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 30 * 86400:
        raise MessageFormatError(f"{text[:40]!r} is no duration", field=field)
    return seconds
