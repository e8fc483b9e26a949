"""Opening a transaction, working in it, dropping it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.digest import Digest
from cernvm.core.errors import (
    ConfigError,
    CvmError,
    InvalidInputError,
    NotFoundError,
    TransactionOpenError,
)
from cernvm.core.home import Home, ensure_folder
from cernvm.core.lock import take_lock
from cernvm.core.log import fields
from cernvm.fs.cache import CacheSettings
from cernvm.fs.client import ClientSettings
from cernvm.fs.edit.copying import copy_subtree
from cernvm.fs.edit.hosting import hide_from_machine, show_to_machine
from cernvm.fs.edit.overlay import Workplace, shows_true_owners
from cernvm.fs.edit.session import Session, run_changing
from cernvm.fs.edit.underlay import STORE_HOST
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.mount import MountSettings
from cernvm.fs.publish.draft import open_draft
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.transaction import (
    Transaction,
    check_no_transaction,
    forget_transaction,
    open_transaction,
    read_transaction,
    write_transaction,
)
from cernvm.fs.reader import Pin, ReaderSettings
from cernvm.fs.reader.settings import NOTHING_AHEAD, AheadSettings
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.database import Item
from cernvm.fs.survey.opened import Revision
from cernvm.fs.vfs import OwnerSettings, ViewSettings
from cernvm.fs.vfs.magic import MagicSettings
from cernvm.net import NetSettings

_TOP = Path("/cvmfs")
_LOOK_S = 0.2  # between two looks whether another transaction has ended
_NEAR_LANES = 2  # a store with so few is a disk: nothing is gained by reading ahead

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bench:
    """A repository with what its changes need: its store, the user's data folder, the folder of its transaction."""

    home: Home
    repository: Repository
    store: ObjectStore

    @property
    def place(self) -> Workplace:
        """Where the changes are."""
        return Workplace(self.home.edits / self.repository.name)


def begin(
    bench: Bench,
    *,
    at: bytes = b"",
    template: tuple[bytes, bytes] | None = None,
    wait_s: float = 0.0,
    clock: Clock | None = None,
) -> Transaction:
    """Open a transaction on the last revision; until it ends nobody else publishes.

    Shape: `at` is the directory that may be changed; `template` a path that is there and one that becomes a copy of it.
    Errors: `TransactionOpenError` while another is open, or another publisher at work, for `wait_s`; `NotFoundError`.
    """
    used = clock or SystemClock()
    ends = used.monotonic() + wait_s
    while open_transaction(bench.repository) is not None and used.monotonic() + _LOOK_S < ends:
        time.sleep(_LOOK_S)
    ensure_folder(bench.home.edits, mode=0o700)
    bench.place.make()
    with _alone(bench, max(0.0, ends - used.monotonic())), held(bench.place):
        check_no_transaction(bench.repository)
        manifest = read_manifest(bench.repository, bench.store)
        root = manifest.root_catalog
        if template is not None and bench.repository.gateway:
            raise InvalidInputError(
                "through a gateway there are no templates",
                advice=f"copy first: cvm repo copy {manifest.name} FROM TO",
            )
        if template is not None:
            root = _copied(bench, manifest, *template, used)
        is_claimed = not shows_true_owners()
        _prepare(bench, root, at, is_claimed=is_claimed)
        opened = Transaction(
            name=bench.repository.name,
            root_catalog=root,
            parent=manifest.root_catalog,
            revision=manifest.revision,
            at=os.fsdecode(at),
            opened_at=used.now(),
            is_claimed=is_claimed,
            template_at="" if template is None else os.fsdecode(template[1]),
        )
        write_transaction(bench.repository, opened)
    log.info("transaction.opened", extra=fields(name=opened.name, revision=opened.revision))
    return opened


def run_in(
    bench: Bench,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
) -> int:
    """Run a command that sees the open transaction's repository writable; returns its exit status.

    Errors: those of `run_changing`; `TransactionOpenError` while another command is at work in it.
    """
    transaction = read_transaction(bench.repository)
    if transaction.is_mounted:
        raise InvalidInputError(
            f"{transaction.name} is writable for the whole machine",
            advice=f"work in {_TOP / transaction.name}",
        )
    bench.place.make()
    with held(bench.place):
        session = Session(
            base=base_settings(bench, transaction, _TOP / transaction.name),
            store=bench.store,
            at=transaction.at,
            place=bench.place,
            logs=bench.home.log,
        )
        return run_changing(session, command, environment=environment, folder=folder)


def show(bench: Bench) -> Path:
    """Have the open transaction writable at /cvmfs for the whole machine, as root; returns the folder to work in."""
    transaction = read_transaction(bench.repository)
    with held(bench.place):
        settings = base_settings(bench, transaction, bench.place.base)
        point = _TOP / transaction.name
        # noted first: if this process dies in between, whoever ends the transaction looks for the mounts
        write_transaction(bench.repository, replace(transaction, is_mounted=True))
        try:
            show_to_machine(
                settings, bench.store, transaction.at, point, bench.place, bench.home.log
            )
        except CvmError:
            write_transaction(bench.repository, transaction)
            raise
    return Path(f"{point}{transaction.at}")


def hide(bench: Bench, transaction: Transaction) -> Transaction:
    """Take the transaction away from /cvmfs, if it is there; returns what it is from then on.

    Errors: `UnavailableError` while somebody uses it.
    """
    if not transaction.is_mounted:
        return transaction
    hide_from_machine(bench.place.base, _TOP / transaction.name, bench.home.run)
    hidden = replace(transaction, is_mounted=False)
    write_transaction(bench.repository, hidden)
    return hidden


def abort(bench: Bench) -> None:
    """Drop all changes and close the transaction.

    Errors: `NotFoundError` where none is open; `UnavailableError`, `TransactionOpenError` while it is in use.
    """
    with held(bench.place):
        try:
            hide(bench, read_transaction(bench.repository))
        except ConfigError:  # a record that nobody can read must not block the repository for ever
            log.warning("transaction.damaged", extra=fields(name=bench.repository.name))
        bench.place.clear()
        forget_transaction(bench.repository)
    log.info("transaction.aborted", extra=fields(name=bench.repository.name))


@contextmanager
def held(place: Workplace) -> Iterator[None]:
    """Be the only one who works in a workplace. Errors: `TransactionOpenError` while somebody else does."""
    ensure_folder(place.folder, mode=0o700)
    lock = take_lock(
        place.lock,
        TransactionOpenError(
            f"another command is at work in the transaction of {place.folder.name}",
            advice="wait for it to end",
        ),
    )
    try:
        yield
    finally:
        os.close(lock)


def base_settings(bench: Bench, transaction: Transaction, point: Path) -> MountSettings:
    """The mount of the revision that is being changed: held there, its links as they are stored."""
    uid, gid = (os.geteuid(), os.getegid()) if transaction.is_claimed else (None, None)
    is_near = bench.store.lanes <= _NEAR_LANES
    client = ClientSettings(
        transaction.name,
        NetSettings(STORE_HOST),
        CacheSettings(bench.home.cache),
        ReaderSettings(
            (bench.repository.keys.public,),
            NOTHING_AHEAD if is_near else AheadSettings(),
            Pin(root_catalog=str(transaction.root_catalog)),
        ),
        ViewSettings(
            owners=OwnerSettings(claim_uid=uid, claim_gid=gid),
            magic=MagicSettings(visibility="never"),
            expands_links=False,
        ),
    )
    return MountSettings(client, point, bench.home.run, is_held=False)


def _alone(bench: Bench, wait_s: float) -> AbstractContextManager[None]:
    """Hold the store; a gateway gives its lease when the changes are published."""
    return nullcontext() if bench.repository.gateway else bench.store.exclusive(wait_s)


def _copied(bench: Bench, manifest: Manifest, source: bytes, target: bytes, clock: Clock) -> Digest:
    """The root catalog of the last revision with a copy of a subtree; nothing is published."""
    with open_draft(bench.repository, bench.store, base=manifest, now=clock.now()) as draft:
        copy_subtree(draft, source, target)
        return draft.finish().root.digest


def _prepare(bench: Bench, root: Digest, at: bytes, *, is_claimed: bool) -> None:
    """An empty upper folder that looks like the folder that it will lie over."""
    revision = Revision(bench.store, root)
    item = revision.find(at)
    revision.close()
    if item is None or not item.entry.is_directory:
        raise NotFoundError("folder in the repository", os.fsdecode(at) or "/")
    bench.place.clear()
    bench.place.make()
    _dress(bench.place.upper, item, is_claimed=is_claimed)


def _dress(folder: Path, item: Item, *, is_claimed: bool) -> None:
    entry = item.entry
    if not is_claimed:
        os.chown(folder, entry.uid, entry.gid)
    folder.chmod(entry.mode & 0o7777)
    for name, value in entry.xattrs.items():
        os.setxattr(folder, name, value)
    os.utime(folder, ns=(entry.mtime_total_ns, entry.mtime_total_ns))
