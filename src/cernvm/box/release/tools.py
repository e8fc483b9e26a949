"""The programs that build releases, run with a deadline, their failures told apart.

Mirrors and package indexes come from the machine's own configuration of apt and pip, never from here.
"""

from __future__ import annotations

import logging
import os
import re
import selectors
import shutil
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import IO

from cernvm.box.mounts import unmount_below
from cernvm.box.release.inputs import Progress
from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError, HostError, PrerequisiteError, SpaceError
from cernvm.core.home import ensure_folder
from cernvm.core.log import fields
from cernvm.core.process import start_child, stop_child

log = logging.getLogger(__name__)

PYTHON = "3.11"  # of Debian 12: what both releases run with
DEADLINE_S = 900.0
_TAIL_LINES = 40
_MAX_LINE_BYTES = 64 * 1024
_OFFLINE_ADVICE = (
    "check the network and this machine's {tool} configuration; finished releases need no network"
)
# how apt, dpkg, mmdebstrap and pip begin the line that tells the cause
_CAUSE = re.compile(
    r"^(?:E|Err|ERROR|error|dpkg: error|mmdebstrap: E|E:.*)[: ]\s*(.*)", re.IGNORECASE
)


def requirement_file(name: str) -> Path:
    """A hashed requirements file of this package, `guest` or `hep`."""
    return Path(str(files("cernvm.box.release").joinpath(f"{name}.txt")))


def mmdebstrap(tree: Path, *, variant: str, packages: Sequence[str], progress: Progress) -> None:
    """Make a minimal Debian 12 in `tree` (replaced) from the machine's own apt sources."""
    remove_tree(tree)
    ensure_folder(tree.parent)
    keep_out = [f"--dpkgopt=path-exclude=/usr/share/{path}/*" for path in _NOT_IN_A_RELEASE]
    need_program("mmdebstrap", package="mmdebstrap")
    command = [
        *_CONTAINED,
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        f"--variant={variant}",
        f"--include={','.join(packages)}",
        "--aptopt=APT::Install-Recommends false",
        # apt's own account cannot enter a private folder; everything it fetches is verified either way
        "--aptopt=APT::Sandbox::User root",
        *keep_out,
        "bookworm",
        str(tree),
    ]
    run_tool(
        command,
        progress=progress,
        source="the Debian mirror",
        package="mmdebstrap",
        env=_own_temporary(tree),
    )


# mmdebstrap's own children would outlive it when it is killed, and its mounts with them
_CONTAINED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_NOT_IN_A_RELEASE = ("man", "doc", "locale", "info", "lintian", "bug")


def download_debian_packages(names: Sequence[str], folder: Path, progress: Progress) -> list[Path]:
    """The newest version of each package as a file in `folder` (emptied first).

    The machine's package lists are used; where they are absent or out of date, fresh ones are fetched into `folder`.
    """
    remove_tree(folder)
    ensure_folder(folder)
    options = ["-o", "APT::Sandbox::User=root"]
    download = ["apt-get", *options, "download", "-q", *names]
    try:
        run_tool(download, progress=progress, source="the Debian mirror", package="apt", cwd=folder)
    except HostError:
        lists = ensure_folder(folder / "state/lists/partial").parent.parent
        own = [*options, "-o", f"Dir::State={lists}", "-o", f"Dir::Cache={folder / 'cache'}"]
        own += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
        ensure_folder(folder / "cache/archives/partial")
        update = ["apt-get", *own, "update", "-q"]
        run_tool(update, progress=progress, source="the Debian mirror", cwd=folder)
        download = ["apt-get", *own, "download", "-q", *names]
        run_tool(download, progress=progress, source="the Debian mirror", cwd=folder)
    return sorted(folder.glob("*.deb"))


def unpack_debian_packages(packages: Sequence[Path], tree: Path, progress: Progress) -> None:
    """Lay the packages' files into `tree`; nothing is configured, no script of theirs runs."""
    ensure_folder(tree)
    for package in packages:
        progress(f"unpacking {package.name}")
        command = ["dpkg", "-x", str(package), str(tree)]
        run_tool(command, progress=progress, source="dpkg", package="dpkg")


def pip_install(requirements: Path, tree: Path, site_packages: str, progress: Progress) -> None:
    """Install hashed requirements for Debian's Python into a folder of `tree` (replaced), whatever Python runs here."""
    target = tree / site_packages
    remove_tree(target)
    command = [
        sys.executable, "-m", "pip", "install",
        "--disable-pip-version-check", "--no-input", "--no-cache-dir", "--no-compile", "--no-deps", "--require-hashes",
        "--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON,
        "--progress-bar", "off", "--root-user-action", "ignore",
        "--target", str(target), "--requirement", str(requirements),
    ]  # fmt: skip
    source = "the Python package index"
    run_tool(command, progress=progress, source=source, env=_own_temporary(tree))


def compile_bytecode(
    python: Sequence[str],
    folders: Sequence[str],
    *,
    progress: Progress,
    options: Sequence[str] = (),
) -> None:
    """Write the bytecode of all modules; it is never checked against its source, since a release never changes."""
    command = [*python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    progress("compiling bytecode")
    # some packages carry files for other Pythons, which do not compile: no failure
    run_tool([*command, *options, *folders], progress=progress, source="compileall", allowed=(0, 1))


def run_tool(
    command: Sequence[str],
    *,
    progress: Progress,
    source: str,
    package: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    allowed: Sequence[int] = (0,),
    deadline_s: float = DEADLINE_S,
) -> list[str]:
    """Run a program to its end, handing its lines to `progress`; returns the last of them.

    Errors: `PrerequisiteError` when it is missing; `SpaceError` when the disk is full; `DeadlineError`; otherwise
    `HostError` naming `source` and the program's own words, since fetching is what fails.
    """
    read_end, write_end = os.pipe()
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with os.fdopen(read_end, "rb", buffering=0) as output:
        with os.fdopen(write_end, "wb") as sink:
            environment = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
            child = start_child(command, log=sink, env=environment, cwd=cwd, package=package)
        try:
            for line in _lines(output, Deadline.after(deadline_s), action=f"{command[0]}"):
                log.debug("tool.said", extra=fields(tool=command[0], line=line))
                tail.append(line)
                progress(line)
            status = child.wait(deadline_s)
        finally:
            stop_child(child)
    if status not in allowed:
        raise failure(command, status, list(tail), source=source)
    return list(tail)


def failure(command: Sequence[str], status: int, tail: Sequence[str], *, source: str) -> CvmError:
    """What a program's last lines mean."""
    text = "\n".join(tail)
    tool = _tool_name(command)
    if "No space left on device" in text or "Disk quota exceeded" in text:
        advice = "free some space, or set CVM_HOME to a folder on another disk"
        return SpaceError(f"{tool} ran out of disk space", advice=advice)
    causes = [match[1] for line in tail if (match := _CAUSE.match(line)) and match[1]]
    cause = causes[0] if causes else (tail[-1] if tail else "it said nothing")
    reason = f"{tool} failed with status {status}: {cause[:300]}"
    return HostError(source, reason, advice=_OFFLINE_ADVICE.format(tool=_configured(tool)))


def remove_tree(tree: Path) -> None:
    """Delete a folder and all in it, where it exists; never through a mount that a killed program left there."""
    if tree.is_dir():
        unmount_below(tree)
        shutil.rmtree(tree)


def need_program(name: str, *, package: str) -> None:
    """Errors: `PrerequisiteError` naming the program and the Debian package that brings it."""
    if shutil.which(name) is None:
        raise PrerequisiteError(
            f"the program {name} is missing", advice=f"install it: apt-get install {package}"
        )


def _own_temporary(tree: Path) -> dict[str, str]:
    """Temporary files beside the tree: what a killed program leaves there goes with the data folder."""
    return {"TMPDIR": str(ensure_folder(tree.parent / ".tmp"))}


def _lines(output: IO[bytes], deadline: Deadline, *, action: str) -> Iterator[str]:
    """Whole lines until the other end closes, bounded in length and time."""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if not selector.select(deadline.remaining_s):
                raise DeadlineError(action, after_s=deadline.budget_s)
            data = output.read(_MAX_LINE_BYTES)
            if not data:
                break
            *whole, pending = (pending + data).replace(b"\r", b"\n").split(b"\n")
            pending = pending[-_MAX_LINE_BYTES:]
            yield from (line.decode(errors="replace") for line in whole if line.strip())
    if pending.strip():
        yield pending.decode(errors="replace")


def _tool_name(command: Sequence[str]) -> str:
    if "-m" in command:
        return command[list(command).index("-m") + 1]
    return "mmdebstrap" if "mmdebstrap" in command else Path(command[0]).name


def _configured(tool: str) -> str:
    return "pip" if tool == "pip" else "apt"
