"""The map of commands and the way every command ends.

A word's module is imported when the word is used, so that `cvm --help` stays instant. Every error of the system ends
here: one sentence, what to do, the exit code of `exit.py`; never a traceback unless `--debug` asks for it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from cernvm.cli.exit import INTERNAL_ERROR, INTERRUPTED, exit_code
from cernvm.cli.lazy import LazyGroup, Words
from cernvm.core import log
from cernvm.core.errors import CvmError
from cernvm.core.home import Home
from cernvm.core.os_errors import from_os

WORDS: Words = {
    "Start here": {
        "demo": ("cernvm.cli.demo:demo", "Run the main job on this machine, from release to plot."),
    },
    "Software": {
        "repo": ("cernvm.cli.repo:repo", "Create, publish, keep, serve and replicate repositories."),
        "mount": ("cernvm.cli.mount:mount", "Mount a repository."),
        "umount": ("cernvm.cli.umount:umount", "Unmount a repository."),
        "remount": ("cernvm.cli.remount:remount", "Show a new revision, or replace a mount's process."),
        "fs": ("cernvm.cli.fs:fs", "Look into repositories and copy out of them."),
        "exec": ("cernvm.cli.exec:exec_", "Run a command that sees repositories, without root."),
        "cache": ("cernvm.cli.cache:cache", "See, check and clean the cache; keep things in it."),
        "why": ("cernvm.cli.why:why", "Explain where a path comes from and why it fails."),
        "bugreport": (
            "cernvm.cli.bugreport:bugreport",
            "Collect all that is known of this machine's mounts.",
        ),
        "config": ("cernvm.cli.config:config", "Read the configuration of clients in /etc/cvmfs."),
        "talk": ("cernvm.cli.talk:talk", "Say the original's commands to a mount."),
        "metrics": ("cernvm.cli.metrics:metrics", "Print or serve the counters of all mounts."),
    },
    "Machines": {
        "run": ("cernvm.cli.instances:run", "Start contextualized instances."),
        "ls": ("cernvm.cli.instances:ls", "List instances, or images with -i."),
        "terminate": ("cernvm.cli.instances:terminate", "End instances."),
        "console": ("cernvm.cli.instances:console", "Print an instance's console."),
        "site": ("cernvm.cli.site:site", "Run a site's own cloud."),
        "context": ("cernvm.cli.context:context", "Render templates and read user-data."),
    },
    "Jobs": {
        "job": ("cernvm.cli.job:job", "Submit, list and cancel jobs."),
        "agent": ("cernvm.cli.agent:agent", "Run an agent: jobs, pilot."),
        "bus": ("cernvm.cli.bus:bus", "Run the message bus."),
        "storage": ("cernvm.cli.storage:storage", "Run the storage service; list and fetch outputs."),
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Edge:
    """What the options before the word decided; commands take it with `@click.pass_obj`."""

    home: Home
    region: str
    headers: bool
    debug: bool


@click.group(
    cls=LazyGroup,
    words=WORDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Example: cvm --region local -H ls     Completion: eval "$(_CVM_COMPLETE=bash_source cvm)"',
)
@click.option(
    "--region",
    default="",
    metavar="NAME",
    help="The cloud to talk to (a file in $CVM_HOME/clouds or ~/.ec2).",
)
@click.option(
    "-H", "--headers", is_flag=True, help="Print headings above the lists of instances and images."
)
@click.option("-v", "--verbose", is_flag=True, help="Log what happens on stderr.")
@click.option("--debug", is_flag=True, help="Log everything; show tracebacks.")
@click.version_option(package_name="cernvm", prog_name="cvm")
@click.pass_context
def cvm(ctx: click.Context, *, region: str, headers: bool, verbose: bool, debug: bool) -> None:
    """One small image, any cloud, software just in time."""
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    log.configure(level=level)
    chosen = region or os.environ.get("CVM_REGION") or os.environ.get("EC2_REGION") or "local"
    ctx.obj = Edge(Home.from_environment(os.environ), chosen, headers, debug)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run `cvm` and end the process with the exit code of what happened."""
    signal.signal(signal.SIGTERM, _interrupt)
    debug = "--debug" in (sys.argv if arguments is None else arguments)
    try:
        status = cvm.main(args=arguments, prog_name="cvm", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("cvm: stopped", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except CvmError as error:
        _fail(error, debug=debug)
    except OSError as error:
        _fail(from_os(error), debug=debug)
    except Exception as error:  # the one place where an unforeseen error ends a command
        if debug:
            raise
        click.echo(f"cvm: internal error: {type(error).__name__}: {error}", err=True)
        click.echo("  → please report it with what --debug prints", err=True)
        sys.exit(INTERNAL_ERROR)
    sys.exit(status if isinstance(status, int) else 0)


def _interrupt(_number: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _fail(error: CvmError, *, debug: bool) -> NoReturn:
    if debug:
        logging.getLogger(__name__).debug("command.failed", exc_info=error)
    click.echo(f"cvm: {error.what}", err=True)
    if error.advice:
        click.echo(f"  → {error.advice}", err=True)
    sys.exit(exit_code(error))
