"""Garbage collection of a repository that is published from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.revision import read_manifest, serve_manifest
from cernvm.fs.publish.transaction import open_transaction
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.collect import Collected, Keeping, collect


def collect_garbage(
    repository: Repository,
    store: ObjectStore,
    *,
    keeping: Keeping,
    dry_run: bool = False,
    force: bool = False,
    wait_s: float = 0.0,
    on_delete: Callable[[str, int], None] | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
    clock: Clock | None = None,
) -> Collected:
    """Delete what no kept revision needs, while no publication goes on; `collect` says what and in which order.

    An open transaction does not hinder it: the revision that is being changed is kept.
    Errors: `TransactionOpenError` where another publisher holds the store for `wait_s`, `InvalidInputError` for a
    repository that says it is never collected, unless `force`; those of `collect`.
    """
    used = clock or SystemClock()
    with store.exclusive(wait_s):
        manifest = read_manifest(repository, store)
        if not (manifest.garbage_collectable or force):
            raise InvalidInputError(
                f"{repository.name} keeps all that was ever published",
                advice="collect it with --force, or set gc for it",
            )
        transaction = open_transaction(repository)
        if transaction is not None:
            shown = (transaction.root_catalog, transaction.parent)
            keeping = replace(keeping, roots=(*keeping.roots, *shown))
        now = used.now()

        def sign(reflog: bytes) -> None:
            serve_manifest(repository, store, manifest, reflog=reflog, now=now)

        return collect(
            store,
            manifest,
            keeping=keeping,
            now=now,
            sign=sign,
            dry_run=dry_run,
            on_delete=on_delete,
            on_step=on_step,
        )
