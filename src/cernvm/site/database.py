"""Opening the site's database: SQLite, private, every transaction whole and on disk before it counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError

from cernvm.core.errors import ConfigError, SpaceError, UnavailableError
from cernvm.core.home import ensure_folder
from cernvm.site import schema

BUSY_TIMEOUT_S = 10


def open_database(folder: Path) -> Engine:
    """The database in `folder`, made where it is missing; readable by its owner only, because it holds secrets.

    Errors: `ConfigError` for one that is damaged or of another version.
    """
    ensure_folder(folder, mode=0o700)
    path = folder / "site.db"
    path.touch(mode=0o600)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as db:
            schema.METADATA.create_all(db)
            _check_version(db, path)
    except DatabaseError as error:
        engine.dispose()
        raise ConfigError(
            f"the site's database cannot be used: {error.orig}",
            source=str(path),
            advice="if it is damaged, move it away to start an empty site",
        ) from None
    except ConfigError:
        engine.dispose()
        raise
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: all of it, or nothing.

    Errors: `SpaceError` for a full disk, `UnavailableError` where the database does not answer.
    """
    try:
        with engine.begin() as db:
            yield db
    except DatabaseError as error:
        if "full" in str(error.orig):
            raise SpaceError(
                "the disk of the site's database is full", advice="free some space"
            ) from error
        raise UnavailableError(f"the site's database does not answer: {error.orig}") from error


def _configure(connection: Any, _record: object) -> None:
    # transactions are begun by `_begin`, not guessed by the driver
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(db: Connection) -> None:
    # take the write lock at once: a read that becomes a write later could not wait for another writer
    db.exec_driver_sql("BEGIN IMMEDIATE")


def _check_version(db: Connection, path: Path) -> None:
    version = db.scalar(select(schema.SITE.c.value).where(schema.SITE.c.key == "schema"))
    if version is None:
        db.execute(insert(schema.SITE).values(key="schema", value=str(schema.SCHEMA_VERSION)))
    elif version != str(schema.SCHEMA_VERSION):
        raise ConfigError(
            f"the site's database has version {version}, expected {schema.SCHEMA_VERSION}",
            source=str(path),
        )
