"""Nothing is left: what a killed demo leaves behind is swept by the next, and `--clean` removes every trace.

Processes end with the demo that started them (the kernel sees to it), mounts with its mount namespace. What can stay
are files: stale records, and the data folder itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cernvm.box.mounts import mounts_below, unmount_below
from cernvm.box.preflight import check_others, running_demo
from cernvm.box.release import operating_system, software
from cernvm.box.release.tools import remove_tree
from cernvm.core.errors import ConflictError, CvmError
from cernvm.core.home import Home, ensure_folder, write_atomically
from cernvm.core.process import read_record

STOP_GRACE_S = 30.0  # a demo that is asked to end terminates its instances first
REPOSITORIES = (operating_system.REPOSITORY, software.REPOSITORY)
TEMPLATE = "evgen.tpl"
REGION = "local"
_MARK = "demo.mark"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the first demo found: whether it made the data folder, or came into one that was there."""

    made_folder: bool


def mark(home: Home) -> None:
    """Note, once, how the data folder was found; `--clean` deletes only where a demo left its mark."""
    if not (home.path / _MARK).exists():
        found = home.path.is_dir()
        ensure_folder(home.path)
        write_atomically(home.path / _MARK, json.dumps(asdict(Mark(not found))).encode())


def sweep(home: Home) -> list[str]:
    """Remove what a demo that was killed left: dead mounts and stale records. Returns what was found, in words.

    Concurrency: holding `only_one`, before anything is started.
    """
    found = [f"the dead mount {point}" for point in unmount_below(home.path)]
    for path in (*home.run.glob("*.json"), *home.run.glob("mounts/*")):
        record = read_record(path)
        if record is None or not record.is_alive:
            found.append(f"the stale record {path.relative_to(home.path)}")
            path.unlink(missing_ok=True)
    return found


def check_clean(home: Home) -> None:
    """Errors: `ConflictError` while the data folder is in use or holds what no demo made; nothing is deleted then.

    Concurrency: outside of a namespace of the demo's own, where the processes of others can be seen.
    """
    check_others(home)
    for path in home.run.glob("mounts/*.json"):
        record = read_record(path)
        if record and record.is_alive:
            raise ConflictError(
                f"{record.what} (process {record.pid}) uses {home.path}",
                advice="cvm umount it first; cvm mount lists the mounts",
            )
    if foreign := sorted(_foreign(home)):
        raise ConflictError(
            f"{home.path} holds what no demo made: {', '.join(foreign[:4])}",
            advice=f"move or remove it first; to delete all of it: rm -r {home.path}",
        )


def stop_running(home: Home) -> None:
    """End the demo that holds the data folder, if one does. Errors: `CvmError` if it would not end."""
    record = running_demo(home)
    if record is None:
        return
    record.stop(grace_s=STOP_GRACE_S)
    if record.is_alive:
        raise CvmError(f"the running demo (process {record.pid}) could not be ended")


def was_here(home: Home) -> bool:
    """Whether any demo ever used this data folder."""
    return (home.path / _MARK).is_file()


def remove_everything(home: Home) -> str:
    """Delete the data folder's content, and the folder itself where a demo made it; returns what was done.

    Errors: `CvmError` when something is left. Concurrency: after `check_clean`, holding `only_one`.
    """
    made_folder = _read_mark(home).made_folder
    unmount_below(home.path)
    # the mark goes last: a clean that is interrupted can be repeated
    for path in sorted(home.path.iterdir(), key=lambda path: path.name == _MARK):
        remove_tree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if made_folder:
        home.path.rmdir()
    left = [*mounts_below(home.path), *(home.path.iterdir() if home.path.is_dir() else ())]
    if left:
        raise CvmError(f"{left[0]} could not be removed")
    return f"removed {home.path}" if made_folder else f"emptied {home.path}"


def withdraw(home: Home) -> None:
    """Take the mark back from a folder in which no demo came to make anything else."""
    if home.path.is_dir() and {path.name for path in home.path.iterdir()} <= {_MARK, "run"}:
        remove_everything(home)


def _foreign(home: Home) -> Iterator[str]:
    """What lies in the data folder although no demo puts it there."""
    for path in home.path.iterdir() if home.path.is_dir() else ():
        if path.name not in _OWN_NAMES and not path.name.startswith(".overlay-"):
            yield path.name
    for path in home.repositories.glob("*.toml"):
        if path.stem not in REPOSITORIES:
            yield f"the repository {path.stem}"
    for path in home.templates.glob("*"):
        if path.name != TEMPLATE:
            yield f"the template {path.name}"
    for path in home.clouds.glob("*"):
        if path.name != f"{REGION}.conf":
            yield f"the region {path.name}"


_OWN_NAMES = {
    _MARK, "releases", "repositories", "srv", "keys", "cache", "run", "log", "clouds", "templates",
    "site", "storage.key", "bus", "pilot", "outputs", "demo",
}  # fmt: skip


def _read_mark(home: Home) -> Mark:
    try:
        return Mark(bool(json.loads((home.path / _MARK).read_bytes())["made_folder"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Mark(made_folder=False)
