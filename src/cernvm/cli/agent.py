"""`cvm agent`: run the agents of the bus; list the pilots that were seen."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_rows
from cernvm.core.config import read_toml
from cernvm.core.process import check_unrecorded, record_process, remove_record
from cernvm.core.units import format_seconds

if TYPE_CHECKING:
    from cernvm.messaging.xmpp import Account
    from cernvm.pilot.depot import Depot
    from cernvm.pilot.pilot_config import PilotConfig
    from cernvm.pilot.queue import DatabaseQueue

JOBS_SERVICE = "agent-jobs.json"
JOBS_ACCOUNT = "jobs"
PATIENCE_S = 600.0

# Each agent imports its own room when it starts: a pilot runs where there is no database and no web server.


@click.group(epilog="Example: cvm agent jobs")
def agent() -> None:
    """Run an agent: jobs, pilot."""


@agent.command(epilog="Example: cvm agent jobs --storage-url http://10.77.0.1:8010")
@click.option("--server", default="", metavar="HOST:PORT", help="The bus (default: the one here).")
@click.option("--storage-url", default="", metavar="URL", help="The storage as pilots reach it.")
@click.option(
    "--storage-local-url",
    default="",
    metavar="URL",
    help="The storage as this agent reaches it (default: the one that runs here).",
)
@click.option("--lease", "lease_s", default=30.0, show_default=True, help="Seconds of a lease.")
@click.pass_obj
def jobs(
    edge: Edge, *, server: str, storage_url: str, storage_local_url: str, lease_s: float
) -> None:
    """Give the jobs of this data folder's queue to pilots until it is interrupted."""
    from cernvm.cli.bus import configured  # noqa: PLC0415
    from cernvm.cli.storage import key_file, running_url  # noqa: PLC0415
    from cernvm.messaging.prosody import ensure_account  # noqa: PLC0415
    from cernvm.messaging.xmpp import Account  # noqa: PLC0415
    from cernvm.pilot.depot import Depot  # noqa: PLC0415
    from cernvm.pilot.queue import DatabaseQueue  # noqa: PLC0415
    from cernvm.storage.key import load_key  # noqa: PLC0415

    record = edge.home.run / JOBS_SERVICE
    check_unrecorded(record)
    own = configured(edge.home)
    host, _, port = (server or f"{own.host}:{own.port}").rpartition(":")
    if not port.isdigit():
        raise click.BadParameter("write HOST:PORT", param_hint="--server")
    address = f"{own.address_of(JOBS_ACCOUNT)}/{secrets.token_hex(4)}"
    account = Account(host, int(port), address, ensure_account(own, JOBS_ACCOUNT))
    local = storage_local_url or running_url(edge.home)
    depot = Depot.at(storage_url or local, local, load_key(key_file(edge.home)))
    queue = DatabaseQueue.in_folder(edge.home.pilot)
    try:
        anyio.run(_until_stopped, _serve_jobs(account, queue, depot, lease_s, record))
    finally:
        remove_record(record)
        queue.close()


async def _serve_jobs(
    account: Account, queue: DatabaseQueue, depot: Depot, lease_s: float, record: Path
) -> None:
    from cernvm.messaging.xmpp import connect_xmpp  # noqa: PLC0415
    from cernvm.pilot.jobs_agent import JobsAgent  # noqa: PLC0415

    _say_connecting(account)
    async with connect_xmpp(account) as bus:
        record_process(record, "cvm agent jobs")
        _announce(account)
        await JobsAgent(queue, bus, depot, lease_s=lease_s).run()


@agent.command(epilog="Example: cvm agent pilot --config pilot.toml")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Bus, account and manager (default: /etc/cernvm/pilot.toml).",
)
def pilot(*, config: Path | None) -> None:
    """Fetch jobs and run them, one at a time, until it is interrupted."""
    from cernvm.messaging.xmpp import Account  # noqa: PLC0415
    from cernvm.pilot.pilot_config import CONFIG_FILE, PilotConfig  # noqa: PLC0415

    path = (config or CONFIG_FILE).resolve()
    settings = read_toml(path, PilotConfig)
    account = Account(settings.host, settings.port, settings.full_address(), settings.password)
    anyio.run(_serve_pilot, account, settings, path)


async def _serve_pilot(account: Account, settings: PilotConfig, path: Path) -> None:
    from cernvm.messaging.xmpp import connect_xmpp  # noqa: PLC0415
    from cernvm.pilot.pilot_agent import run_pilot  # noqa: PLC0415

    _say_connecting(account)
    # in an instance the bus may come up after the pilot
    async with connect_xmpp(account, deadline_s=PATIENCE_S) as bus:
        _announce(account)
        await run_pilot(bus, settings, os.environ, secret=path)


@agent.command("ls", epilog="Example: cvm agent ls --json")
@json_option
@click.pass_obj
def ls(edge: Edge, *, as_json: bool) -> None:
    """List the pilots that were seen: where they are and what they do."""
    from cernvm.cli.job import open_queue  # noqa: PLC0415
    from cernvm.pilot.jobs_agent import ACTIVE  # noqa: PLC0415

    now = datetime.now(UTC)
    with open_queue(edge.home) as queue:
        working = {job.agent: job.id for job in queue.jobs(states=ACTIVE)}
        rows = [
            {
                "agent": seen.address,
                "host": seen.host,
                "state": ("working" if seen.address in working else "idle")
                if seen.is_present
                else "away",
                "job": working.get(seen.address, ""),
                "seen": seen.seen_at.isoformat()
                if as_json
                else f"{format_seconds((now - seen.seen_at).total_seconds())} ago",
            }
            for seen in queue.agents()
        ]
    print_rows(rows, columns=["agent", "host", "state", "job", "seen"], as_json=as_json)


async def _until_stopped(service: Awaitable[None]) -> None:
    """Await a service until SIGINT or SIGTERM, then cancel it where it waits and end as Ctrl-C does.

    An exception that a signal handler raises may strike within the loop's own bookkeeping, and its threads live on.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with anyio.CancelScope() as scope:
        for number in before:
            loop.add_signal_handler(number, scope.cancel)
        try:
            await service
        finally:
            for number, old in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, old)
    if scope.cancelled_caught:
        raise KeyboardInterrupt


def _say_connecting(account: Account) -> None:
    click.echo(f"connecting to xmpp://{account.host}:{account.port}", err=True)


def _announce(account: Account) -> None:
    click.echo(f"connected to xmpp://{account.host}:{account.port} as {account.address}")
    sys.stdout.flush()
