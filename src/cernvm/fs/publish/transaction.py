"""An open transaction: somebody changes a repository by hand, and until it is published or aborted nobody else may.

It outlives processes and reboots, so it is a small JSON file beside the repository's record. Publishers on other
machines cannot see it: what they publish meanwhile is found when the changes are laid over the revision of then.

Shape: `$CVM_HOME/repositories/NAME.transaction` with the keys of `Transaction`, digests as text.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cernvm.core.digest import Digest, parse_digest
from cernvm.core.errors import ConfigError, FormatError, NotFoundError, TransactionOpenError
from cernvm.core.home import write_atomically
from cernvm.fs.publish.repository import Repository


@dataclass(frozen=True, slots=True)
class Transaction:
    """Which revision is being changed, and where.

    Shape: `root_catalog` is what is shown below the changes: the last revision's, `parent`, or one that a template made
    of it. `at` is the path below which it may be changed, empty for all of it; `is_claimed` when its files are shown as
    the user's own; `is_mounted` when it is writable at /cvmfs for the whole machine; a template's copy stands
    at `template_at`, if there is one.
    """

    name: str
    root_catalog: Digest
    parent: Digest
    revision: int
    at: str
    opened_at: datetime
    is_claimed: bool = False
    is_mounted: bool = False
    template_at: str = ""


def open_transaction(repository: Repository) -> Transaction | None:
    """The transaction that is open, if one is. Errors: `ConfigError` for a record that cannot be read."""
    path = _record_path(repository)
    try:
        row = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, repository) from error
    try:
        return _transaction(row, repository.name)
    except (KeyError, TypeError, ValueError, FormatError) as error:
        raise _damaged(path, repository) from error


def read_transaction(repository: Repository) -> Transaction:
    """The open transaction. Errors: `NotFoundError` where there is none."""
    found = open_transaction(repository)
    if found is None:
        raise NotFoundError(
            "open transaction of",
            repository.name,
            advice=f"name a folder to publish, or open one: cvm repo transaction {repository.name}",
        )
    return found


def write_transaction(repository: Repository, transaction: Transaction) -> None:
    """Open it, or note what changed about it; the caller holds the store."""
    row = asdict(transaction) | {
        "root_catalog": str(transaction.root_catalog),
        "parent": str(transaction.parent),
        "opened_at": transaction.opened_at.timestamp(),
    }
    write_atomically(_record_path(repository), json.dumps(row).encode())


def forget_transaction(repository: Repository) -> None:
    """Close it; others may publish."""
    _record_path(repository).unlink(missing_ok=True)


def check_no_transaction(repository: Repository) -> None:
    """Errors: `TransactionOpenError` while a transaction is open, with what to do about it."""
    found = open_transaction(repository)
    if found is not None:
        name = repository.name
        raise TransactionOpenError(
            f"a transaction of {name} is open since {found.opened_at:%Y-%m-%d %H:%M} UTC",
            advice=f"publish it: cvm repo publish {name}, or drop it: cvm repo abort {name}",
        )


def _transaction(row: dict[str, Any], name: str) -> Transaction:
    return Transaction(
        name=name,
        root_catalog=parse_digest(row["root_catalog"]),
        parent=parse_digest(row["parent"]),
        revision=int(row["revision"]),
        at=os.fsdecode(os.fsencode(str(row["at"]))),
        opened_at=datetime.fromtimestamp(float(row["opened_at"]), UTC),
        is_claimed=bool(row["is_claimed"]),
        is_mounted=bool(row["is_mounted"]),
        template_at=os.fsdecode(os.fsencode(str(row.get("template_at", "")))),
    )


def _record_path(repository: Repository) -> Path:
    return repository.index.with_name(f"{repository.name}.transaction")


def _damaged(path: Path, repository: Repository) -> ConfigError:
    return ConfigError(
        "it is no record of a transaction",
        source=str(path),
        advice=f"drop the transaction: cvm repo abort {repository.name}",
    )
