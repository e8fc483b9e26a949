"""`cvm repo gc`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.cli.repo.choices import (
    wait_option,
)
from cernvm.cli.repo.places import (
    Place,
    Step,
    open_place,
    read_place_manifest,
    replica_state,
    telling,
)
from cernvm.core.clock import SystemClock
from cernvm.core.errors import InvalidInputError, TransactionOpenError
from cernvm.core.home import Home
from cernvm.core.units import format_bytes
from cernvm.fs.gateway.service import leases_open_since
from cernvm.fs.publish.collecting import collect_garbage
from cernvm.fs.publish.repository import Repository, open_storage
from cernvm.fs.publish.settings import MOST_DAYS, Settings
from cernvm.fs.replicate.state import (
    STATUS_PATH,
    collecting,
    format_date,
    note_status,
    parse_date,
    read_document,
)
from cernvm.fs.survey.collect import LEFTOVER_DAYS, Collected, Keeping, collect


@click.command(epilog="Example: cvm repo gc sft.cernvm.test --keep 5 --dry-run")
@click.argument("name", metavar="NAME|FOLDER")
@click.option(
    "--keep", type=click.IntRange(0), metavar="N", help="Keep N revisions before the last one."
)
@click.option(
    "--keep-days",
    type=click.FloatRange(0, MOST_DAYS),
    metavar="DAYS",
    help="Keep what was served since then.  [default: 3, or as the repository's settings say]",
)
@click.option(
    "--leftovers", is_flag=True, help="Also delete young leftovers of publications that died."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
@click.option("--force", is_flag=True, help="Also where gc is off, or a lease is open.")
@wait_option(60.0)
@click.option(
    "--log", "log_path", type=click.Path(path_type=Path), help="Append each deleted path."
)
@json_option
@click.pass_obj
def gc(
    edge: Edge,
    *,
    name: str,
    keep: int | None,
    keep_days: float | None,
    leftovers: bool,
    dry_run: bool,
    force: bool,
    wait_s: float,
    log_path: Path | None,
    as_json: bool,
) -> None:
    """Delete what no kept revision of repository or replica NAME needs.

    The last revision, tagged ones and those of --keep and --keep-days stay whole.
    """
    place = open_place(edge.home, name)
    usual = Settings() if place.repository is None else place.repository.settings
    revisions, days = usual.gc_keep_revisions, usual.gc_keep_days
    if keep is not None or keep_days is not None:
        revisions, days = keep or 0, keep_days or 0.0
    keeping = Keeping(
        revisions=revisions,
        days=days,
        leftover_days=0.0 if leftovers else LEFTOVER_DAYS,
        not_before=_check_leases(edge.home, place, force=force or dry_run),
    )
    with ExitStack() as stack:
        step = stack.enter_context(telling("collecting"))
        written = None
        if log_path is not None:
            written = stack.enter_context(log_path.open("a", buffering=1, encoding="utf-8"))
        done = _collect(
            place,
            keeping,
            dry_run=dry_run,
            force=force,
            wait_s=wait_s,
            on_delete=_logging(written, dry_run=dry_run),
            on_step=step,
        )
    _print(done, as_json=as_json)


def collect_if_due(home: Home, repository: Repository) -> None:
    """Collect after a publication, where the repository's settings want that and the last time is long enough ago.

    Not while somebody else works on it: then it is done another time.
    """
    settings = repository.settings
    if not settings.auto_gc or repository.gateway:
        return
    store, now = open_storage(repository), SystemClock().now()
    last = parse_date(str(read_document(store, STATUS_PATH).get("last_gc", "")))
    lapse = timedelta(days=settings.auto_gc_lapse_days)
    if last is not None and timedelta() <= now - last < lapse:
        return
    place = open_place(home, repository.name)
    keeping = Keeping(settings.gc_keep_revisions, settings.gc_keep_days)
    try:
        _check_leases(home, place, force=False)
        with telling("collecting") as step:
            done = _collect(
                place,
                keeping,
                dry_run=False,
                force=False,
                wait_s=0.0,
                on_delete=None,
                on_step=step,
            )
    except TransactionOpenError:
        return
    freed = format_bytes(done.freed_bytes)
    click.echo(f"cvm: collected {done.gone_revisions} old revisions, {freed}", err=True)


def _collect(
    place: Place,
    keeping: Keeping,
    *,
    dry_run: bool,
    force: bool,
    wait_s: float,
    on_delete: Callable[[str, int], None] | None,
    on_step: Step,
) -> Collected:
    if place.repository is not None:
        done = collect_garbage(
            place.repository,
            place.store,
            keeping=keeping,
            dry_run=dry_run,
            force=force,
            wait_s=wait_s,
            on_delete=on_delete,
            on_step=on_step,
        )
        if not dry_run:
            note_status(place.store, {"last_gc": format_date(SystemClock().now())})
        return done
    if not (place.manifest.garbage_collectable or force):
        raise InvalidInputError(
            f"{place.name} keeps all that was ever published", advice="collect it with --force"
        )
    state = replica_state(place)
    if state is not None and state.paths:
        raise InvalidInputError(
            f"{place.name} is a replica of parts only",
            advice="replicate all of it, or make the partial replica anew",
        )
    now = SystemClock().now
    with (
        place.store.exclusive(wait_s),
        nullcontext() if dry_run else collecting(place.store, now=now),
    ):
        return collect(
            place.store,
            read_place_manifest(place.store, place.name),  # it may have been replicated meanwhile
            keeping=keeping,
            now=now(),
            sign=None,
            dry_run=dry_run,
            on_delete=on_delete,
            on_step=on_step,
        )


def _check_leases(home: Home, place: Place, *, force: bool) -> datetime | None:
    """Since when somebody publishes through the gateway; then nothing is deleted unless by force."""
    since = leases_open_since(home, place.name) if place.repository is not None else None
    if since is not None and not force:
        raise TransactionOpenError(
            f"a lease on {place.name} is open since {since:%Y-%m-%d %H:%M} UTC",
            advice="wait until it is returned or expires; --force keeps what is younger",
        )
    return since


def _logging(file: IO[str] | None, *, dry_run: bool) -> Callable[[str, int], None] | None:
    if file is None or dry_run:
        return None

    def log(path: str, size_bytes: int) -> None:
        file.write(f"{SystemClock().now():%Y-%m-%dT%H:%M:%SZ} {size_bytes} {path}\n")

    return log


def _print(done: Collected, *, as_json: bool) -> None:
    if as_json:
        row = dataclasses.asdict(done)
        row["gone"] = [
            {"hash": str(one.digest), "kind": one.kind.name.lower()} for one in done.gone
        ]
        print_json(row)
        return
    rows = {
        "kept": f"{done.kept_revisions} revisions, {done.kept_objects} objects",
        "would go" if done.is_dry else "gone": (
            f"{done.gone_revisions} revisions, {done.catalogs} catalogs, {done.objects} other objects"
        ),
        "leftovers": str(done.leftovers),
        "would free" if done.is_dry else "freed": format_bytes(done.freed_bytes),
    }
    for label, text in rows.items():
        click.echo(f"{label:<10}  {text}")
    if done.foreign:
        click.echo(f"cvm: {done.foreign} files below data/ are no objects; they stay", err=True)
