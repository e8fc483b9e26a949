"""The queue in a database: SQLite in one file by default, any other that SQLAlchemy knows by its URL."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import (
    DeniedError,
    ExistsError,
    NotFoundError,
    SpaceError,
    UnavailableError,
)
from cernvm.core.home import ensure_folder
from cernvm.pilot.job import Job, JobState, Lease, Output
from cernvm.pilot.lease import give
from cernvm.pilot.port import SeenAgent

BUSY_S = 30

_metadata = sa.MetaData()

_jobs = sa.Table(
    "jobs",
    _metadata,
    sa.Column("position", sa.Integer, primary_key=True),  # the order of submission
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("lease_until", sa.Float),  # seconds since 1970; NULL when nobody holds the job
    sa.Column(
        "job", sa.Text, nullable=False
    ),  # the whole value as JSON; the columns above repeat parts of it
    sa.Index("jobs_by_state", "state", "position"),
)

_agents = sa.Table(
    "agents",
    _metadata,
    sa.Column("address", sa.String(1023), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("is_present", sa.Boolean, nullable=False),
)


class DatabaseQueue:
    """A `Queue` in a database, shared by the job agent and any number of command lines."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._engine = _make_engine(url)
        with _our_errors():
            _metadata.create_all(self._engine)

    @classmethod
    def in_folder(cls, folder: Path) -> DatabaseQueue:
        """The queue in `folder`/jobs.db, which is made when it is missing."""
        ensure_folder(folder, mode=0o700)
        return cls(f"sqlite:///{folder / 'jobs.db'}")

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def submit(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        with self._transaction() as connection:
            for job in jobs:
                try:
                    connection.execute(sa.insert(_jobs).values(_to_row(job)))
                except IntegrityError:
                    raise ExistsError("job", job.id) from None

    def claim(self, agent: str, *, lease_s: float) -> Job | None:
        first = (
            sa.select(_jobs.c.job)
            .where(_jobs.c.state == JobState.WAITING.value)
            .order_by(_jobs.c.position)
            .limit(1)
            .with_for_update(
                skip_locked=True
            )  # several job agents on PostgreSQL; SQLite has one writer anyway
        )
        with self._transaction() as connection:
            text = connection.execute(first).scalar()
            if text is None:
                return None
            given = give(_to_job(text), agent, now=self._clock.now(), lease_s=lease_s)
            self._store(connection, given)
            return given

    def change(self, job_id: str, rule: Callable[[Job], Job]) -> Job:
        one = sa.select(_jobs.c.job).where(_jobs.c.id == job_id).with_for_update()
        with self._transaction() as connection:
            text = connection.execute(one).scalar()
            if text is None:
                raise NotFoundError("job", job_id)
            before = _to_job(text)
            after = rule(before)
            if after != before:
                self._store(connection, after)
            return after

    def jobs(self, *, states: Collection[JobState] = (), ids: Collection[str] = ()) -> list[Job]:
        wanted = sa.select(_jobs.c.job).order_by(_jobs.c.position)
        if states:
            wanted = wanted.where(_jobs.c.state.in_([state.value for state in states]))
        if ids:
            wanted = wanted.where(_jobs.c.id.in_(list(ids)))
        with _our_errors(), self._engine.connect() as connection:
            return [_to_job(text) for text in connection.execute(wanted).scalars()]

    def see_agent(self, agent: SeenAgent) -> None:
        row = {"seen_at": agent.seen_at.timestamp(), "is_present": agent.is_present}
        if agent.host:
            row["host"] = agent.host  # type: ignore[assignment]
        with self._transaction() as connection:
            changed = connection.execute(
                sa.update(_agents).where(_agents.c.address == agent.address).values(row)
            )
            if changed.rowcount == 0:
                new = {"address": agent.address, "host": agent.host, **row}
                connection.execute(sa.insert(_agents).values(new))

    def agents(self) -> list[SeenAgent]:
        with _our_errors(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_agents).order_by(_agents.c.address)).all()
        return [
            SeenAgent(
                row.address, row.host, datetime.fromtimestamp(row.seen_at, UTC), row.is_present
            )
            for row in rows
        ]

    def _store(self, connection: sa.Connection, job: Job) -> None:
        connection.execute(sa.update(_jobs).where(_jobs.c.id == job.id).values(_to_row(job)))

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with _our_errors(), self._engine.execution_options(writes=True).begin() as connection:
            yield connection


def _make_engine(url: str) -> sa.Engine:
    if not url.startswith("sqlite:"):
        return sa.create_engine(url, pool_pre_ping=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # a writer takes its turn before it reads: what a rule decided cannot be overtaken
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        reason = str(error.orig)
        if "full" in reason:
            raise SpaceError(f"the queue's database: {reason}", advice="free some space") from error
        if "readonly" in reason or "unable to open" in reason:
            raise DeniedError(
                f"the queue's database: {reason}",
                advice="check the owner and mode of $CVM_HOME/pilot, and that its disk may be written",
            ) from error
        raise UnavailableError(f"the queue's database: {reason}", advice="try again") from error
    except SQLAlchemyError as error:
        raise UnavailableError(f"the queue's database: {error}") from error


def _to_row(job: Job) -> dict[str, object]:
    until = None if job.lease is None else job.lease.until.timestamp()
    return {"id": job.id, "state": job.state.value, "lease_until": until, "job": _format(job)}


def _format(job: Job) -> str:
    return json.dumps(asdict(replace(job, environment=dict(job.environment))), default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, JobState):
        return value.value
    raise TypeError(type(value))


def _to_job(text: str) -> Job:
    values: dict[str, Any] = json.loads(text)
    lease = values["lease"]
    values |= {
        "command": tuple(values["command"]),
        "outputs": tuple(values["outputs"]),
        "state": JobState(values["state"]),
        "declared": tuple(Output(**output) for output in values["declared"]),
        "lease": lease and Lease(lease["agent"], lease["fence"], _moment(lease["until"])),
    }
    for name in ("submitted_at", "started_at", "ended_at"):
        values[name] = values[name] and _moment(values[name])
    return Job(**values)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
