"""`cvm demo`: the main job on this machine, and its removal without a trace."""

from __future__ import annotations

import time
from pathlib import Path

import click

from cernvm.cli.exit import EXIT_CODES
from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json
from cernvm.core.home import Home
from cernvm.core.units import format_seconds


@click.command(
    epilog="Example: cvm demo --report ~/report     Small: cvm demo --jobs 2 --events 100 --instances 1"
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.json, report.html and the outputs (default: $CVM_HOME/demo).",
)
@click.option("--jobs", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option(
    "--events", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="Per job."
)
@click.option("--instances", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, until Ctrl-C.")
@click.option("--clean", is_flag=True, help="End a running demo and remove every trace of all.")
@click.option("--inside", is_flag=True, hidden=True)
@json_option
@click.pass_obj
def demo(
    edge: Edge,
    *,
    report: Path | None,
    jobs: int,
    events: int,
    instances: int,
    keep: bool,
    clean: bool,
    inside: bool,
    as_json: bool,
) -> int:
    """Run the main job: publish releases, start instances from them, run jobs in these, plot what comes out.

    The first run fetches Debian and Python packages with this machine's own apt and pip; later runs need no network.
    An ordinary user's demo runs inside a namespace of its own.
    """
    from cernvm.box.world import clean as clean_world  # noqa: PLC0415  # heavy; --help needs none
    from cernvm.box.world import in_own_world  # noqa: PLC0415

    again = [*(["--debug"] if edge.debug else []), "demo", "--inside"]
    if clean:
        return clean_world(edge.home, again=[*again, "--clean"], inside=inside, say=click.echo)
    folder = (report or edge.home.demo).absolute()
    again += ["--report", str(folder), "--jobs", str(jobs), "--events", str(events)]
    again += ["--instances", str(instances)]
    again += [*(["--keep"] if keep else []), *(["--json"] if as_json else [])]

    def tell() -> None:
        _tell(edge.home, folder, jobs, events, instances, keep=keep, as_json=as_json)

    return in_own_world(edge.home, tell, again=again, inside=inside)


def _tell(
    home: Home, folder: Path, jobs: int, events: int, instances: int, *, keep: bool, as_json: bool
) -> None:
    from cernvm.box.demo import run_demo  # noqa: PLC0415
    from cernvm.box.report import to_document  # noqa: PLC0415
    from cernvm.box.screen import Screen  # noqa: PLC0415
    from cernvm.box.story import Options  # noqa: PLC0415

    report = run_demo(
        home,
        Options(report=folder, jobs=jobs, events=events, instances=instances),
        error_kinds={code: kind for kind, code in EXIT_CODES.items()},
        screen=Screen(),
        before_end=_wait if keep else lambda: None,
    )
    if as_json:
        print_json(to_document(report))
        return
    seconds = sum(step.seconds for step in report.steps)
    click.echo(
        f"\n{report.jobs_done} of {len(report.jobs)} jobs done, {report.events_total:,} events,"
        f" {format_seconds(seconds)}"
    )
    for name, path in (("report", folder / "report.html"), *(("plot", p) for p in report.plots)):
        click.echo(f"{name:7} {path}")


def _wait() -> None:
    """Leave everything running until somebody says that it is enough."""
    click.echo(
        "everything runs; look around with cvm ls, cvm job ls, cvm console. Ctrl-C ends it",
        err=True,
    )
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        click.echo("ending", err=True)
