"""Where an instance begins: `/usr/sbin/cernvm-init`, its process 1."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cernvm.core.clock import SystemClock
from cernvm.core.log import PlainFormatter
from cernvm.guest.contextualize import Contextualized, contextualize
from cernvm.guest.init import COMMAND_LOG, Init
from cernvm.guest.machine import LocalMachine
from cernvm.guest.sources.ec2 import DEFAULT_URL, Ec2Source
from cernvm.guest.sources.local_file import DEFAULT_PATH, FileSource
from cernvm.guest.sources.port import Source
from cernvm.guest.sources.search import SEARCH_BUDGET_S
from cernvm.guest.status import State


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Contextualize the instance and look after its processes; ends only when a signal says so."""
    options = _options(arguments)
    os.umask(0o022)
    _log_to_console()
    sources: tuple[Source, ...] = (
        FileSource(options.user_data),
        Ec2Source(options.metadata_url),
    )
    machine = LocalMachine()

    def work() -> Contextualized:
        # the status belongs to process 1, which knows the command too
        return contextualize(
            sources, machine, SystemClock(), budget_s=options.wait_s, record=not options.once
        )

    if options.once:
        sys.exit(0 if work().status.state is State.DONE else 1)
    status = Init(work, machine, _say, options.command_log).run()
    # no waiting for a contextualization that hangs in a system call: the instance is ending
    sys.stdout.flush()
    os._exit(status)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cernvm-init", description=__doc__)
    parser.add_argument("--metadata-url", default=DEFAULT_URL, help="the EC2 metadata service")
    parser.add_argument("--user-data", type=Path, default=DEFAULT_PATH, help="a file, tried first")
    parser.add_argument(
        "--wait-s", type=float, default=SEARCH_BUDGET_S, help="how long to look for a context"
    )
    parser.add_argument("--command-log", type=Path, default=COMMAND_LOG)
    parser.add_argument("--once", action="store_true", help="apply the context and end")
    return parser.parse_args(arguments)


def _log_to_console() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
