"""`cvm bugreport`: all that is known of this machine's mounts in one file, without secrets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.cli.paths import PATH
from cernvm.core.home import Home, write_private
from cernvm.core.units import format_bytes, format_seconds
from cernvm.fs.mount.bugreport import Page, Redactor, collect, is_secret, pack, sources

_MOST_KNOWN_BYTES = 64 * 1024


@click.command(epilog="Example: cvm bugreport --output report.tar.gz")
@click.option(
    "--output",
    type=PATH,
    metavar="FILE",
    help="Where to write it.  [default: cvm-bugreport-TIME.tar.gz]",
)
@json_option
@click.pass_obj
def bugreport(edge: Edge, *, output: Path | None, as_json: bool) -> None:
    """Collect versions, settings, logs and the state of every mount in one file, for whoever is to help.

    Takes ten seconds at most, whatever hangs. Passwords, tokens and keys are taken out; look at it before you send it.
    """
    begun = time.monotonic()
    redactor = Redactor(_known_secrets(edge.home))
    pages = [
        Page(page.name, redactor.redact_page(page.text), page.took_s, page.note)
        for page in collect(sources(edge.home))
    ]
    pages.sort(key=lambda page: page.name)
    name = time.strftime("cvm-bugreport-%Y%m%d-%H%M%S")
    path = output or Path(f"{name}.tar.gz")
    data = pack(pages, folder=name)
    write_private(path, data)
    if as_json:
        rows = [
            {"page": p.name, "bytes": len(p.text), "took_s": round(p.took_s, 2), "note": p.note}
            for p in pages
        ]
        print_json({"file": str(path), "bytes": len(data), "pages": rows})
        return
    took = format_seconds(time.monotonic() - begun)
    click.echo(f"{path}: {len(pages)} pages, {format_bytes(len(data))}, in {took}")
    for page in pages:
        if page.note:
            click.echo(f"  {page.name}: {page.note}")


def _known_secrets(home: Home) -> Iterator[str]:
    """Values that may have got into a log or an answer."""
    yield from (value for name, value in os.environ.items() if is_secret(name))
    for folder in (home.clouds, home.bus):
        if not folder.is_dir():
            continue
        for path in folder.iterdir():
            if path.is_file() and path.stat().st_size <= _MOST_KNOWN_BYTES:
                for line in path.read_text("utf-8", "replace").splitlines():
                    label, _, value = line.partition("=")
                    if is_secret(label):
                        yield value.strip().strip("\"'")
