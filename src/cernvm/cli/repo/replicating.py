"""`cvm repo replicate`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.cli.repo.choices import keys_option, second_keys_option
from cernvm.core.clock import SystemClock
from cernvm.core.errors import InvalidInputError
from cernvm.core.home import check_repository_name
from cernvm.core.units import format_bytes, format_seconds
from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.peers.settings import PeerSettings, said_peers
from cernvm.fs.publish.repository import open_storage, read_repository
from cernvm.fs.replicate.crew import DEFAULT_THREADS
from cernvm.fs.replicate.replica import (
    Replica,
    forget_replica,
    is_replica,
    known_replicas,
    open_replica,
    read_replica,
    write_replica,
)
from cernvm.fs.replicate.replicating import Replicated, replicate
from cernvm.fs.replicate.scope import Scope
from cernvm.fs.replicate.state import MASTER_REPLICA_PATH, set_replicable
from cernvm.fs.replicate.updating import Update, keep_updated, update
from cernvm.fs.replicate.walk import Tally
from cernvm.fs.store.opening import location_of

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command(
    "replicate",
    epilog="Example: cvm repo replicate http://far.example/cvmfs/sft.cernvm.test --key sft.cernvm.test.pub",
)
@click.argument("upstream", nargs=-1, metavar="URL...|NAME...")
@click.option(
    "--name", default="", help="Which repository it is; the URL's last part, if not given."
)
@keys_option("The repository's public key; any of several may vouch for it.")
@second_keys_option
@click.option("--storage", default="", help="Folder, s3://BUCKET/PREFIX or fsspec+… to copy to.")
@click.option(
    "--store-config",
    type=click.Path(path_type=Path),
    help="Private file with the store's endpoint and keys.",
)
@click.option(
    "--at", "paths", multiple=True, metavar="PATH", help="Copy only this folder; may be repeated."
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="GLOB",
    help="Copy only revisions so tagged.  [default: all]",
)
@click.option("--no-tags", is_flag=True, help="Copy the newest revision only.")
@click.option(
    "--history",
    type=click.IntRange(-1),
    metavar="N",
    help="Copy N revisions before the newest; -1: all.",
)
@click.option("--packs/--no-packs", default=None, help="Copy packs and profiles.  [default: packs]")
@click.option(
    "--proxy", default="", metavar="CHAIN", help="As in http://p1:3128|http://p2:3128;DIRECT"
)
@click.option(
    "--peers",
    default="",
    metavar="off|zeroconf|LIST",
    help="Clients nearby to ask for objects first: ADDRESS,ADDRESS or found.  [default: off]",
)
@click.option(
    "--peers-listen",
    default="",
    metavar="ADDRESS[:PORT]",
    help="Where peers are answered meanwhile.  [default: our own address of LIST]",
)
@click.option(
    "--peers-secret",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="What proves a peer to be one of ours.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=DEFAULT_THREADS,
    show_default=True,
    help="How many connections at once, each with many requests.",
)
@click.option(
    "--repair", "repairs", is_flag=True, help="Read all that is here; copy again what is damaged."
)
@click.option("--all", "is_all", is_flag=True, help="Update all replicas.")
@click.option(
    "--every", default="", metavar="TIME", help="Go on, again after so long (30s, 5m, 1h)."
)
@json_option
@click.pass_obj
def replicate_(
    edge: Edge,
    *,
    upstream: Sequence[str],
    name: str,
    keys: Sequence[Path],
    second_keys: Sequence[Path],
    storage: str,
    store_config: Path | None,
    paths: Sequence[str],
    tags: Sequence[str],
    no_tags: bool,
    history: int | None,
    packs: bool | None,
    proxy: str,
    peers: str,
    peers_listen: str,
    peers_secret: Path | None,
    threads: int,
    repairs: bool,
    is_all: bool,
    every: str,
    as_json: bool,
) -> None:
    """Copy a repository from URL, and from further URLs of it when that fails, or update replica NAME.

    What is there is not copied again. Options are remembered: next time the name is enough.
    """
    every_s = parse_every(every) if every else 0.0
    if is_all == bool(upstream):
        raise click.UsageError("name what to replicate, or say --all")
    if every and repairs:
        raise click.UsageError("--repair reads everything, so it is not for --every")
    if any("://" in word for word in upstream):
        said = _Said(
            tuple(url.rstrip("/") for url in upstream),
            tuple(keys),
            tuple(second_keys),
            storage,
            store_config,
            proxy,
            lambda known: said_peers(known, peers, peers_listen, peers_secret),
        )
        scope = _Changes(paths, () if no_tags else tags or None, history, packs)
        replicas = [_replica(edge, name, said, scope)]
        first = _replicate_first(edge, replicas[0], threads, repairs=repairs)
        _print_done(first, as_json=as_json)
        if not every_s:
            return
    else:
        origin = (name, keys, second_keys, storage, store_config, proxy)
        if any((*origin, peers, peers_listen, peers_secret, paths, tags, no_tags, history)) or (
            packs is not None
        ):
            raise InvalidInputError(
                "what a replica copies is changed with its URL", advice="name its URL, not its name"
            )
        replicas = _known(edge, upstream)
    if every_s:
        keep_updated(
            lambda: _known(edge, () if is_all else [replica.name for replica in replicas]),
            every_s=every_s,
            clock=SystemClock(),
            threads=threads,
            on_update=lambda one: _print_update(one, as_json=as_json),
        )
    else:
        _update_once(replicas, threads, repairs=repairs, as_json=as_json)


@click.command(epilog="Example: cvm repo replicable sft.cernvm.test on")
@click.argument("name")
@click.argument("answer", type=click.Choice(["on", "off"]), required=False)
@click.pass_obj
def replicable(edge: Edge, *, name: str, answer: str | None) -> None:
    """Show, or say, whether stratum 1 servers of the original may copy repository NAME.

    They look for a file .cvmfs_master_replica; cvm repo replicate copies what it can read.
    """
    store = open_storage(read_repository(edge.home, name))
    if answer is not None:
        set_replicable(store, is_replicable=answer == "on", now=SystemClock().now())
    click.echo("on" if store.has(MASTER_REPLICA_PATH) else "off")


@dataclass(frozen=True, slots=True)
class _Said:
    """What the command line says of where a replica comes from and lies."""

    urls: tuple[str, ...]
    keys: tuple[Path, ...]
    second_keys: tuple[Path, ...]
    storage: str
    config: Path | None
    proxy: str
    peers: Callable[[PeerSettings], PeerSettings]

    def location(self, name: str) -> str:
        """Where to copy to; empty where nothing was said."""
        if "://" in self.storage:
            return location_of(self.storage, config=self.config, name=name)
        if self.config is not None:
            raise InvalidInputError("--store-config belongs to a --storage that is no folder")
        return str(Path(self.storage).absolute()) if self.storage else ""


class _Changes:
    """What the command line says of what is copied."""

    def __init__(
        self,
        paths: Sequence[str],
        tags: Sequence[str] | None,
        history: int | None,
        packs: bool | None,
    ) -> None:
        given = {
            "paths": tuple(path.rstrip("/") for path in paths) if paths else None,
            "tags": None if tags is None else tuple(tags),
            "history": history,
            "has_packs": packs,
        }
        self.given = {key: value for key, value in given.items() if value is not None}

    def applied(self, scope: Scope) -> Scope:
        return replace(scope, **self.given)  # type: ignore[arg-type]  # by name


def _replica(edge: Edge, name: str, said: _Said, scope: _Changes) -> Replica:
    """The replica that the command line describes; of one that is known, what is not said stays."""
    name = check_repository_name(name or said.urls[0].rpartition("/")[2])
    location = said.location(name)
    if not is_replica(edge.home, name):
        if not said.keys:
            raise InvalidInputError(
                f"nobody vouches for {name}", advice="name its public key: --key FILE"
            )
        location = location or str(edge.home.storage / name)
        return Replica(
            name,
            location,
            said.urls,
            said.keys,
            scope.applied(Scope()),
            said.proxy or "DIRECT",
            said.second_keys,
            said.peers(PeerSettings()),
        )
    known = read_replica(edge.home, name)
    if location and location != known.storage:
        raise InvalidInputError(
            f"{name} is replicated to {known.storage}", advice=f"first: cvm repo remove {name}"
        )
    return replace(
        known,
        urls=said.urls,
        public_keys=said.keys or known.public_keys,
        scope=scope.applied(known.scope),
        proxies=said.proxy or known.proxies,
        second_keys=said.second_keys or known.second_keys,
        peers=said.peers(known.peers),
    )


def _replicate_first(edge: Edge, replica: Replica, threads: int, *, repairs: bool) -> Replicated:
    """A replica whose upstream cannot be believed or reached at all is forgotten again."""
    is_new = not is_replica(edge.home, replica.name)
    replica = write_replica(edge.home, replica)
    store = open_replica(replica)
    try:
        with shown_tally(replica.name) as show:
            return replicate(replica, store, threads=threads, repairs=repairs, on_progress=show)
    except Exception:
        if is_new and not store.has(MANIFEST_PATH) and not any(store.paths("data/")):
            forget_replica(edge.home, replica)
        raise


def _known(edge: Edge, names: Sequence[str]) -> list[Replica]:
    return [read_replica(edge.home, name) for name in names] or known_replicas(edge.home)


def _update_once(
    replicas: Sequence[Replica], threads: int, *, repairs: bool, as_json: bool
) -> None:
    """Update each; the first that failed decides how the command ends."""
    updates = []
    for replica in replicas:
        with shown_tally(replica.name) as show:
            one = update(
                replica, clock=SystemClock(), threads=threads, repairs=repairs, on_progress=show
            )
        updates.append(one)
        if one.error is not None and len(replicas) > 1:
            click.echo(f"cvm: {one.name}: {one.error}", err=True)
        elif one.replicated is not None and not as_json:
            _print_done(one.replicated, as_json=False)
    if as_json:
        rows = [_row(one.replicated) for one in updates if one.replicated is not None]
        print_json(rows[0] if len(replicas) == 1 and rows else rows)
    for failed in (one.error for one in updates if one.error is not None):
        raise failed


def _row(done: Replicated) -> dict[str, object]:
    return {
        "name": done.name,
        "revision": done.revision,
        "root_hash": str(done.root_catalog),
        "is_new": done.is_new,
        "revisions": done.revisions,
        "lost_revisions": done.lost_revisions,
        "catalogs": done.catalogs,
        "objects": done.objects,
        "peer_objects": done.peer_objects,
        "received_bytes": done.received_bytes,
        "whitelist_expires_at": f"{done.whitelist_expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "took_s": round(done.took_s, 3),
    }


def _print_done(done: Replicated, *, as_json: bool) -> None:
    if as_json:
        print_json(_row(done))
        return
    was = "" if done.is_new else ", as before"
    click.echo(f"revision   {done.revision} of {done.name}{was}")
    click.echo(f"root hash  {done.root_catalog}")
    lost = f", {done.lost_revisions} are gone upstream" if done.lost_revisions else ""
    if done.revisions:
        click.echo(f"revisions  {done.revisions} looked through{lost}")
    near = f", {done.peer_objects} from peers" if done.peer_objects else ""
    click.echo(f"copied     {done.objects} objects, {format_bytes(done.received_bytes)}{near}")
    click.echo(f"took       {format_seconds(done.took_s)}")


def _print_update(one: Update, *, as_json: bool) -> None:
    """One line for each time that something happened."""
    if one.error is not None:
        click.echo(f"cvm: {one.name}: {one.error}", err=True)
    elif one.replicated is not None and (one.replicated.is_new or one.replicated.objects):
        done = one.replicated
        if as_json:
            print_json(_row(done))
        else:
            click.echo(f"{done.name}: revision {done.revision}, {done.objects} objects")
        sys.stdout.flush()


def parse_every(text: str) -> float:
    """Seconds from text such as `30s`, `5m`, `1h`. Errors: `InvalidInputError`."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise InvalidInputError(f"{text!r} is no time", advice="write it as 30s, 5m or 1h")
    return float(match[1]) * _UNITS_S[match[2]]


@contextmanager
def shown_tally(name: str) -> Iterator[Callable[[Tally], None]]:
    """A line on stderr that counts, where that is a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415  # slow to import, and for terminals only
    from rich.status import Status  # noqa: PLC0415

    with Status(name, console=Console(stderr=True)) as status:
        yield lambda tally: status.update(
            f"{name}: {tally.catalogs} catalogs, {tally.objects} objects, "
            f"{format_bytes(tally.received_bytes)}"
        )
