"""What the commands of `cvm repo` print, and the options that several of them take."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from cernvm.cli.output import print_json, printable
from cernvm.core.clock import SystemClock
from cernvm.core.digest import parse_digest
from cernvm.core.errors import CvmError, FormatError, InvalidInputError, NotFoundError, TrustError
from cernvm.core.units import format_bytes, format_seconds
from cernvm.fs.publish.entries import Owner
from cernvm.fs.publish.profiles import WrittenProfile
from cernvm.fs.publish.publishing import Published
from cernvm.fs.publish.repository import (
    Repository,
    open_storage,
)
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.transaction import open_transaction
from cernvm.fs.publish.whitelisting import expiry_warning, read_whitelist
from cernvm.fs.store.port import ObjectStore
from cernvm.fs.survey.reading import read_tags

if TYPE_CHECKING:
    from cernvm.fs.replicate.replica import Replica


def warn_of_whitelist(repository: Repository, store: ObjectStore) -> None:
    """Say on stderr, long before, that the whitelist runs out; what is wrong with it otherwise `check` tells."""
    with suppress(CvmError):
        whitelist = read_whitelist(repository, store)
        if text := expiry_warning(whitelist, now=SystemClock().now()):
            click.echo(f"cvm: {text}", err=True)


def described(repository: Repository) -> dict[str, object]:
    """A repository as `ls` and `info` show it."""
    store = open_storage(repository)
    manifest = read_manifest(repository, store)
    published = manifest.published_at
    return {
        "name": repository.name,
        "kind": "repository",
        "revision": manifest.revision,
        "root_hash": str(manifest.root_catalog),
        "published_at": "" if published is None else f"{published:%Y-%m-%dT%H:%M:%SZ}",
        "tags": [tag.name for tag in read_tags(manifest, store)],
        "gc_enabled": manifest.garbage_collectable,
        "hash": repository.algorithm.value,
        "compression": repository.compression.name.lower(),
        "packs": repository.has_packs,
        "storage": repository.storage,
        "public_key": str(repository.keys.public),
        "whitelist_expires_at": _whitelist_end(repository, store),
        "transaction": _transaction_since(repository),
    }


def _whitelist_end(repository: Repository, store: ObjectStore) -> str:
    try:
        whitelist = read_whitelist(repository, store)
    except CvmError as error:
        return f"none that is valid: {error.what}"
    return f"{whitelist.expires_at:%Y-%m-%dT%H:%M:%SZ}"


def _transaction_since(repository: Repository) -> str:
    found = open_transaction(repository)
    return "" if found is None else f"open since {found.opened_at:%Y-%m-%dT%H:%M:%SZ}"


def described_replica(replica: Replica) -> dict[str, object]:
    """A replica as `ls` and `info` show it; nothing of its revision before the first was copied."""
    from cernvm.fs.replicate.replica import open_replica  # noqa: PLC0415  # few words are about replicas
    from cernvm.fs.replicate.replicating import read_replicated  # noqa: PLC0415

    store = open_replica(replica)
    manifest = read_replicated(store, replica.name)
    row: dict[str, object] = {"name": replica.name, "kind": "replica"}
    if manifest is not None:
        published = manifest.published_at
        row |= {
            "revision": manifest.revision,
            "root_hash": str(manifest.root_catalog),
            "published_at": "" if published is None else f"{published:%Y-%m-%dT%H:%M:%SZ}",
            "tags": [tag.name for tag in read_tags(manifest, store)],
            "gc_enabled": manifest.garbage_collectable,
            "hash": manifest.root_catalog.algorithm.value,
        }
    return row | {
        "packs": replica.scope.has_packs,
        "paths": list(replica.scope.paths),
        "urls": list(replica.urls),
        "storage": replica.storage,
        "public_key": ", ".join(map(str, replica.public_keys)),
    }


def contents(store: ObjectStore, root_hash: str) -> dict[str, object]:
    """How much a revision holds; nothing where its root catalog is lost, which `check` tells."""
    from cernvm.fs.survey.overview import count_contents  # noqa: PLC0415  # all of the reader comes with it

    try:
        total = count_contents(store, parse_digest(root_hash))
    except (NotFoundError, FormatError, TrustError):
        return {}
    return {
        "entries": total.entries,
        "files": total.regular,
        "content_bytes": total.file_size,
        "catalogs": 1 + total.nested,
    }


def published_row(published: Published) -> dict[str, object]:
    """A publication as `--json` shows it."""
    row = {
        field.name: getattr(published, field.name)
        for field in dataclasses.fields(published)
        if field.name not in ("root_catalog", "profiles")
    }
    row["root_hash"] = str(published.root_catalog)
    row["profiles"] = [_written_row(written) for written in published.profiles]
    return row


def print_published(published: Published, *, as_json: bool) -> None:
    """Print what a publication did."""
    if as_json:
        print_json(published_row(published))
        return
    if not published.is_new:
        named = f", tagged {', '.join(published.tags)}" if published.tags else ""
        click.echo(
            f"nothing to publish: revision {published.revision} of {published.name} stands{named}"
        )
        return
    click.echo(f"revision   {published.revision} of {published.name}")
    click.echo(f"root hash  {published.root_catalog}")
    click.echo(f"tag        {', '.join(published.tags)}")
    click.echo(f"files      {published.files}, {format_bytes(published.read_bytes)}")
    click.echo(
        f"stored     {published.stored_objects} new objects, {format_bytes(published.stored_bytes)}"
    )
    for written in published.profiles:
        tell_losses(written)
    click.echo(f"took       {format_seconds(published.took_s)}")


def _written_row(written: WrittenProfile) -> dict[str, object]:
    return {
        "label": written.label,
        "objects": 0 if written.profile is None else len(written.profile.accesses),
        "lost_paths": [path.decode("utf-8", "replace") for path in written.lost_paths],
    }


def tell_losses(written: WrittenProfile) -> None:
    """What a profile lost, on stderr: nothing failed, but somebody may want to record it again."""
    if written.profile is None:
        click.echo(f"cvm: profile {written.label} is gone: none of its files is left", err=True)
    elif written.lost_paths:
        first = printable(written.lost_paths[0].decode("utf-8", "replace"))
        count = len(written.lost_paths)
        click.echo(
            f"cvm: profile {written.label} lost {count} files ({first} …); record it again",
            err=True,
        )


def print_fields(row: dict[str, object], *, as_json: bool) -> None:
    """Print one row, a field a line, or as JSON."""
    if as_json:
        print_json(row)
        return
    width = max(len(key) for key in row)
    for key, value in row.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        click.echo(f"{key.replace('_', ' ').ljust(width)}  {printable(str(shown))}")


def parse_owner(text: str) -> Owner | None:
    """The owner that `--owner` asks for: nothing, `root` or `UID:GID`."""
    if not text:
        return None
    if text == "root":
        return Owner(0, 0)
    uid, colon, gid = text.partition(":")
    if not (colon and uid.isdecimal() and gid.isdecimal() and max(int(uid), int(gid)) < 1 << 32):
        raise InvalidInputError(f"{text!r} is no owner", advice="write root, or UID:GID in numbers")
    return Owner(int(uid), int(gid))
