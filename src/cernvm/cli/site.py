"""`cvm site`: a site's own cloud, as a process and as a listing."""

from __future__ import annotations

import dataclasses
import getpass
import os
from collections import Counter
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.core.config import read_toml
from cernvm.core.errors import NotFoundError
from cernvm.core.process import read_record


@click.group(epilog="Example: cvm site serve")
def site() -> None:
    """Run a site's own cloud: EC2 API, metadata service, instances."""


@site.command(epilog="Example: cvm site serve --config site.toml --port 8773")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What the site offers (default: $CVM_HOME/site.toml).",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=None,
    help="Where the API listens on 127.0.0.1 (default: the configuration's; 0: a free one).",
)
@click.pass_obj
def serve(edge: Edge, config_path: Path | None, port: int | None) -> None:
    """Be the site until told to stop; writes the region file that `cvm --region NAME` reads."""
    from cernvm.site.config import SiteConfig  # noqa: PLC0415  # heavy; `cvm site --help` needs none
    from cernvm.site.serve import run_site  # noqa: PLC0415

    path = config_path or edge.home.path / "site.toml"
    if config_path is None and not path.exists():
        raise NotFoundError(
            "site configuration", str(path), advice="docs/how-to/site.md shows one to begin with"
        )
    config = read_toml(path, SiteConfig)
    keyed = [
        dataclasses.replace(each, public_key=(path.parent / each.public_key).absolute())
        for each in config.repositories
    ]
    run_site(
        edge.home,
        dataclasses.replace(config, repositories=tuple(keyed)),
        port=config.port if port is None else port,
        owner_id=_user_name(),
        announce=lambda url: print(f"listening on {url}", flush=True),
    )


@site.command(epilog="Example: cvm site status --json")
@json_option
@click.pass_obj
def status(edge: Edge, *, as_json: bool) -> None:
    """Show whether the site runs, where, and how many instances it has in which state."""
    from cernvm.site.state import open_state  # noqa: PLC0415

    record = read_record(edge.home.run / "site.json")
    alive = record is not None and record.is_alive
    counts: Counter[str] = Counter()
    if (edge.home.site / "site.db").exists():
        state = open_state(edge.home.site)
        counts.update(instance.state.value for instance in state.instances())
        state.close()
    row = {
        "state": "running" if alive else "stopped",
        "url": f"http://{record.address}" if record and alive else "",
        "pid": record.pid if record and alive else None,
        "instances": dict(counts) if as_json else _summary(counts),
    }
    print_rows([row], columns=["state", "url", "pid", "instances"], as_json=as_json)


def _summary(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "none"


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
