"""Where jobs' outputs go, as the job agent sees it: it gives tokens out and checks what arrived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cernvm.core.errors import DigestMismatchError
from cernvm.pilot.commands import Destination, JobKey
from cernvm.pilot.job import Job
from cernvm.storage import Capability, ObjectStorage, StorageClient, mint_token

TOKEN_LIFE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Depot:
    """A storage service: its URL for pilots, the key it shares with us (never printed), and how we reach it."""

    url_for_agents: str
    key: bytes
    open_storage: Callable[[str], ObjectStorage]

    @classmethod
    def at(cls, url_for_agents: str, local_url: str, key: bytes) -> Depot:
        """The service at `local_url`, which pilots reach as `url_for_agents`."""
        return cls(url_for_agents, key, lambda token: StorageClient(local_url, token))

    def __repr__(self) -> str:
        return f"Depot({self.url_for_agents})"

    def destination(self, job: Job, *, now: datetime) -> Destination:
        """A folder of the job's own and a token for it alone: to put what it declared, for an hour."""
        largest = max((output.size_bytes for output in job.declared), default=0)
        capability = Capability(
            job.folder, ("HEAD", "PUT"), _end(now), max_bytes=largest, job=job.id
        )
        token = mint_token(self.key, capability)
        return Destination(JobKey(job.id, job.fence), self.url_for_agents, job.folder, token)

    def check(self, job: Job, *, now: datetime) -> None:
        """Let pass only when every declared output is kept with the declared size and content.

        Errors: `NotFoundError`, `DigestMismatchError`; `UnavailableError` when the storage cannot say.
        Concurrency: blocks; the storage reads every output again.
        """
        capability = Capability(job.folder, ("HEAD",), _end(now), max_bytes=0, job=job.id)
        storage = self.open_storage(mint_token(self.key, capability))
        for output in job.declared:
            stat = storage.stat(f"{job.folder}/{output.name}", verify=True)
            if (stat.size_bytes, stat.sha256) != (output.size_bytes, output.sha256):
                raise DigestMismatchError(
                    expected=output.sha256, got=stat.sha256, source=f"{job.folder}/{output.name}"
                )


def _end(now: datetime) -> int:
    return int((now + TOKEN_LIFE).timestamp())
