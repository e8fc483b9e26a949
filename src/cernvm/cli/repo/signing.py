"""`cvm repo resign` and `cvm repo keys`."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.cli.paths import PATH
from cernvm.core.clock import SystemClock
from cernvm.core.errors import InvalidInputError
from cernvm.core.home import write_atomically
from cernvm.core.units import format_seconds
from cernvm.fs.format.blacklist import MAX_BLACKLIST_BYTES, parse_blacklist
from cernvm.fs.format.whitelist import format_fingerprint
from cernvm.fs.publish.repository import (
    open_storage,
    read_repository,
)
from cernvm.fs.publish.resigning import resign_whitelist
from cernvm.fs.publish.rotating import (
    GRACE_DAYS,
    SETTLE_S,
    begin_second_signature,
    list_certificate,
    revoke_certificate,
    rotate_signing_key,
)
from cernvm.fs.publish.signing import WHITELIST_DAYS
from cernvm.fs.publish.whitelisting import own_fingerprints, read_listed, read_whitelist, renew

_MAX_DAYS = 3650


@click.command(epilog="Example: cvm repo resign sft.cernvm.test --days 60")
@click.argument("name", required=False)
@click.option(
    "--days",
    type=click.IntRange(1, _MAX_DAYS),
    default=WHITELIST_DAYS,
    show_default=True,
    help="How long it is valid.",
)
@click.option(
    "--whitelist", type=PATH, metavar="FILE", help="Sign this one anew, without a repository."
)
@click.option(
    "--master-key",
    default="",
    metavar="PATH|command:…|pkcs11:…",
    help="The master key that signs FILE.",
)
@click.pass_obj
def resign(
    edge: Edge, *, name: str | None, days: int, whitelist: Path | None, master_key: str
) -> None:
    """Sign a new whitelist with the master key: of repository NAME, or of a FILE where only the key is at hand.

    FILE is a repository's .cvmfswhitelist; it is replaced, and to be copied back.
    """
    if (name is None) == (whitelist is None):
        raise InvalidInputError("one of NAME and --whitelist is needed")
    if whitelist is not None:
        signed = resign_whitelist(whitelist, master_key, now=SystemClock().now(), days=days)
    else:
        repository = read_repository(edge.home, name or "")
        signed = renew(repository, open_storage(repository), days=days)
    until = f"{signed.expires_at:%Y-%m-%d %H:%M} UTC"
    click.echo(f"the whitelist of {signed.name} is valid until {until}")


@click.group(epilog="Example: cvm repo keys show sft.cernvm.test")
def keys() -> None:
    """Show, rotate and revoke the certificates that sign a repository."""


@keys.command(epilog="Example: cvm repo keys show sft.cernvm.test --json")
@click.argument("name")
@json_option
@click.pass_obj
def show(edge: Edge, *, name: str, as_json: bool) -> None:
    """List the certificates on NAME's whitelist, which of them is in use, and until when they are listed."""
    repository = read_repository(edge.home, name)
    whitelist = read_whitelist(repository, open_storage(repository))
    own, listed = own_fingerprints(repository), read_listed(repository.keys)
    rows = []
    for fingerprint in sorted(
        whitelist.fingerprints, key=lambda one: own.index(one) if one in own else len(own)
    ):
        text = format_fingerprint(fingerprint)
        end = listed.get(text)
        use = "in use" if fingerprint == own[0] else "next" if fingerprint in own else "listed"
        rows.append(
            {
                "fingerprint": text,
                "use": use,
                "until": "" if end is None else f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d}",
                "whitelist_expires_at": f"{whitelist.expires_at:%Y-%m-%dT%H:%M:%SZ}",
                "second_key": str(repository.keys.second_public)
                if repository.keys.second.is_file()
                else "",
            }
        )
    columns = ("fingerprint", "use", "until", "whitelist_expires_at")
    print_rows(rows, columns=columns, as_json=as_json)


@keys.command(epilog="Example: cvm repo keys rotate sft.cernvm.test")
@click.argument("name")
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(min=0),
    default=SETTLE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long caches may hold the whitelist of before.",
)
@click.option(
    "--grace-days",
    type=click.IntRange(0, _MAX_DAYS),
    default=GRACE_DAYS,
    show_default=True,
    help="How long the old certificate stays listed.",
)
@click.pass_obj
def rotate(edge: Edge, *, name: str, settle_s: float, grace_days: int) -> None:
    """Have NAME's manifests be signed by a new key; clients notice nothing. Broken off, it goes on when repeated."""

    def wait(seconds: float) -> None:
        if seconds > 0:
            click.echo(
                f"waiting {format_seconds(seconds)} until every cache has the new whitelist",
                err=True,
            )
            time.sleep(seconds)

    repository = read_repository(edge.home, name)
    fresh = rotate_signing_key(
        repository, open_storage(repository), wait=wait, settle_s=settle_s, grace_days=grace_days
    )
    click.echo(f"{name} is signed by {format_fingerprint(fresh)}")


@keys.command(epilog="Example: cvm repo keys add sft.cernvm.test other.crt")
@click.argument("name")
@click.argument("certificate", type=PATH)
@click.pass_obj
def add(edge: Edge, *, name: str, certificate: Path) -> None:
    """List another publisher's CERTIFICATE (PEM) on NAME's whitelist as well."""
    repository = read_repository(edge.home, name)
    fingerprint = list_certificate(repository, open_storage(repository), certificate)
    click.echo(f"the whitelist of {name} lists {format_fingerprint(fingerprint)}")


@keys.command(
    epilog="Example: cvm repo keys revoke sft.cernvm.test --below 120 --blacklist /etc/cvmfs/blacklist"
)
@click.argument("name")
@click.argument("fingerprint", required=False)
@click.option(
    "--below",
    type=click.IntRange(min=1),
    metavar="REVISION",
    help="Also refuse all revisions before this one.",
)
@click.option(
    "--blacklist", type=PATH, metavar="FILE", help="Add the lines to this file of clients."
)
@click.pass_obj
def revoke(
    edge: Edge, *, name: str, fingerprint: str | None, below: int | None, blacklist: Path | None
) -> None:
    """Take the certificate FINGERPRINT off NAME's whitelist, and print what clients' blacklists need.

    The whitelist ends it for clients that see the new one; a blacklist also where somebody replays the old one.
    """
    if fingerprint is None and below is None:
        raise InvalidInputError("one of FINGERPRINT and --below is needed")
    repository = read_repository(edge.home, name)
    lines = []
    if fingerprint is not None:
        found = revoke_certificate(repository, open_storage(repository), fingerprint)
        lines.append(f"{format_fingerprint(found)}  # of {name}")
    if below is not None:
        lines.append(f"<{name} {below}")
    for line in lines:
        click.echo(line)
    if blacklist is not None:
        _extend(blacklist, lines)


@keys.command(epilog="Example: cvm repo keys second sft.cernvm.test")
@click.argument("name")
@click.pass_obj
def second(edge: Edge, *, name: str) -> None:
    """Sign NAME's manifests a second time by an Ed25519 key, for clients that ask for it; others pass it by."""
    repository = read_repository(edge.home, name)
    public = begin_second_signature(repository, open_storage(repository))
    click.echo(f"give clients {public}: cvm mount {name} --second-key FILE")


def _extend(path: Path, lines: list[str]) -> None:
    """Add lines to a blacklist; clients see the old file or the new one."""
    old = b""
    if path.exists():
        with path.open("rb") as file:
            old = file.read(MAX_BLACKLIST_BYTES)
    known = old.decode("utf-8", "replace").splitlines()
    fresh = [line for line in lines if line not in known]
    text = "".join(f"{line}\n" for line in (*known, *fresh))
    parse_blacklist(text, where=str(path))
    write_atomically(path, os.fsencode(text))
