"""What there is to be asked about a machine's mounts. No source touches a mount's file system or the network.

Source: docs/formats/bugreport.md
"""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cernvm.core.home import Home
from cernvm.fs.mount.bugreport.inside import stacks_of
from cernvm.fs.mount.control import ask
from cernvm.fs.mount.outside import look_from_outside
from cernvm.fs.mount.record import MountRecord, recorded_mounts

ASKED = ("status", "metrics", "settings")

_MOST_MOUNTS = 16
_ANSWER_DEADLINE_S = 1.5
_TAIL_BYTES = 128 * 1024
_PACKAGES = ("cernvm", "cryptography", "isal", "click")
_OF_INTEREST = re.compile(
    rb"\bfuse|\bcvm\b|cernvm|oom-kill|out of memory|i/o error|blocked for more|hung task",
    re.IGNORECASE,
)
_VARIABLES = re.compile(r"CVM_|CVMFS_|(https?|all|no)_proxy$", re.IGNORECASE)
_PROCESS_FILES = ("status", "limits", "wchan", "stack", "io")


@dataclass(frozen=True, slots=True)
class Source:
    """One page of a report and who writes it; `read` may raise, hang or die, which costs that page only."""

    name: str
    read: Callable[[], str]


def sources(home: Home, *, etc: Path = Path("/etc/cvmfs")) -> list[Source]:
    """Every source, the mounts' own first: it is what they hide that is looked for."""
    records = list(recorded_mounts(home.run))[:_MOST_MOUNTS]
    return [
        *(source for record in records for source in _of_mount(record, home)),
        Source("versions.txt", _versions),
        Source("machine.txt", _machine),
        Source("mountinfo.txt", _mountinfo),
        Source("environment.txt", _environment),
        Source("home.txt", partial(_listing, (home.run, home.log, home.repositories))),
        Source("cache.txt", partial(_cache, home.cache)),
        Source("kernel.txt", _kernel),
        Source("etc-cvmfs.txt", partial(_configuration, etc)),
    ]


def _of_mount(record: MountRecord, home: Home) -> Iterator[Source]:
    log = home.log / f"mount-{record.repository}.log"
    folder = f"mounts/{record.repository}-{record.socket.stem[:8]}"
    yield Source(f"{folder}/outside.json", partial(_outside, record, log))
    yield Source(f"{folder}/why.json", partial(_answer, record, {"ask": "why", "path": "/"}))
    for word in ASKED:
        yield Source(f"{folder}/{word}.json", partial(_answer, record, {"ask": word}))
    yield Source(f"{folder}/stacks.txt", partial(stacks_of, record, log))
    yield Source(f"{folder}/process.txt", partial(_process, record.process.pid))
    yield Source(f"{folder}/log.txt", partial(_tail, log))


def _outside(record: MountRecord, log: Path) -> str:
    seen = look_from_outside(record, log)
    return _json({"record": asdict(record), "outside": asdict(seen), "verdict": seen.verdict})


def _answer(record: MountRecord, question: dict[str, str]) -> str:
    return _json(ask(record.socket, question, deadline_s=_ANSWER_DEADLINE_S))


def _process(pid: int) -> str:
    pages = [f"== {name}\n{_text(Path(f'/proc/{pid}/{name}'))}" for name in _PROCESS_FILES]
    tasks = sorted(Path(f"/proc/{pid}/task").iterdir())
    for task in tasks[:600]:
        state = re.search(r"^State:\s*(.*)$", _text(task / "status"), re.MULTILINE)
        pages.append(
            f"{task.name} {_text(task / 'comm').strip()} {state[1] if state else '?'} {_text(task / 'wchan')}\n"
        )
    return "".join(pages)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _TAIL_BYTES))
        return file.read(_TAIL_BYTES).decode("utf-8", "replace")


def _versions() -> str:
    lines = [f"python {sys.version}", f"kernel {platform.release()} {platform.version()}"]
    for name in _PACKAGES:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lines.append(f"{name}: not installed")
    lines += [_run("fusermount3", "--version"), _text(Path("/etc/os-release"))]
    return "\n".join(lines) + "\n"


def _machine() -> str:
    names = ("loadavg", "uptime", "meminfo", "pressure/io", "pressure/memory")
    pages = [f"== {name}\n{_text(Path('/proc') / name)}" for name in names]
    return f"user {os.geteuid()}, {os.cpu_count()} cores\n" + "".join(pages)


def _mountinfo() -> str:
    """Only what is of interest: other mounts' options may hold secrets."""
    table = Path("/proc/self/mountinfo").read_bytes().splitlines()
    kept = [line for line in table if b" - fuse" in line or b"cvmfs" in line]
    return b"\n".join(kept).decode("utf-8", "replace") + f"\n{len(table)} mounts in all\n"


def _environment() -> str:
    chosen = sorted((k, v) for k, v in os.environ.items() if _VARIABLES.match(k))
    return "".join(f"{name}={value}\n" for name, value in chosen) + f"umask {os.umask(0o077):o}\n"


def _listing(folders: tuple[Path, ...]) -> str:
    lines: list[str] = []
    for folder in folders:
        lines.append(f"{folder}:\n")
        for path in sorted(folder.rglob("*"))[:500]:
            found = path.lstat()
            lines.append(
                f"{found.st_mode:o} {found.st_uid} {found.st_size} {path.relative_to(folder)}\n"
            )
    return "".join(lines)


def _cache(folder: Path) -> str:
    room = os.statvfs(folder)
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    lines = [f"{folder}: {free} of {size} bytes free, {room.f_favail} inodes free"]
    for path in sorted(folder.iterdir()):
        if len(path.name) > 2:  # not one of the 256 folders of content
            found = path.lstat()
            lines.append(f"{found.st_mode:o} {found.st_uid} {found.st_size} {path.name}")
    lines += _index_lines(folder / "index")
    return "\n".join(lines) + "\n"


def _index_lines(path: Path) -> Iterator[str]:
    address = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=0.5)) as database:
        for question in (
            "SELECT COUNT(*), SUM(size_bytes), MIN(turn), MAX(turn) FROM objects",
            "SELECT rank, COUNT(*), SUM(size_bytes) FROM objects GROUP BY rank",
            "SELECT COUNT(*), COUNT(DISTINCT owner) FROM pins",
            "SELECT COUNT(*), SUM(size_bytes) FROM ghosts",
            "SELECT * FROM totals",
        ):
            try:
                yield f"{question}: {database.execute(question).fetchall()}"
            except sqlite3.Error as error:
                yield f"{question}: {error}"


def _kernel() -> str:
    told = _run("dmesg", "--time-format", "iso")
    kept = [line for line in told.encode().splitlines() if _OF_INTEREST.search(line)]
    return b"\n".join(kept[-300:]).decode("utf-8", "replace") + "\n"


def _configuration(etc: Path) -> str:
    """The texts of the original's configuration. Keys are listed and not read."""
    pages: list[str] = []
    for path in sorted(etc.rglob("*"))[:500]:
        if path.suffix in (".conf", ".local") and path.is_file():
            pages.append(f"== {path}\n{_text(path)}\n")
        else:
            pages.append(f"== {path}\n")
    return "".join(pages)


def _run(*words: str) -> str:
    try:
        ended = subprocess.run(
            words, capture_output=True, timeout=_ANSWER_DEADLINE_S, check=False, stdin=subprocess.DEVNULL
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{words[0]}: {error}"
    return (ended.stdout or ended.stderr).decode("utf-8", "replace").strip()


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError as error:
        return f"{error.strerror}\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=1, default=str) + "\n"
