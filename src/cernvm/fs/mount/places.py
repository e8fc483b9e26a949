"""From a path a person names to the mount it lies in, without touching any mount's file system: it may be sick."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.errors import NotFoundError
from cernvm.fs.fuse import KIND, Mounted, mounts
from cernvm.fs.mount.record import MountRecord, recorded_mount, recorded_mounts

_LINKS_FOLLOWED = 40


@dataclass(frozen=True, slots=True)
class Place:
    """A path inside a mounted repository; `inside` is `/`-rooted, as the repository names it."""

    record: MountRecord
    inside: str


def find_place(path: Path, run: Path) -> Place:
    """The mount that holds `path`, bind mounts of it included, and where in the repository that is.

    Errors: `NotFoundError` when no mounted repository holds it, or its process left no record below `run`.
    """
    resolved, mounted = _resolve(path)
    if mounted is None:
        return _find_unmounted(resolved, run)
    inside = mounted.root / resolved.relative_to(mounted.point)
    for record in recorded_mounts(run):
        if record.device == mounted.device and record.repository == mounted.source:
            return Place(record, str(inside))
    raise NotFoundError(
        "record of the mount at",
        str(mounted.point),
        advice="it was mounted with another CVM_HOME, or by another user: ask as that one",
    )


def resolve_point(path: Path) -> Path:
    """The absolute place of a mount point, links on the way to it resolved."""
    resolved, mounted = _resolve(path)
    return resolved if mounted else Path(os.path.realpath(resolved))


def _find_unmounted(path: Path, run: Path) -> Place:
    for point in (path, *path.parents):
        record = recorded_mount(run, point)
        if record is not None:
            return Place(record, str("/" / path.relative_to(point)))
    raise NotFoundError(
        "mounted repository at", str(path), advice="cvm mount lists what is mounted"
    )


def _resolve(path: Path) -> tuple[Path, Mounted | None]:
    """The path with links resolved up to the first mount of ours on the way, and that mount."""
    ours = {mount.point: mount for mount in mounts() if mount.kind == KIND}
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  # absolute() would keep `..`
    for _ in range(_LINKS_FOLLOWED):
        for prefix in (*reversed(absolute.parents), absolute):
            if prefix in ours:
                inner = _innermost(absolute, ours)
                return absolute, ours[inner]
            if prefix.is_symlink():
                target = prefix.parent / prefix.readlink()
                rest = absolute.relative_to(prefix)
                absolute = Path(os.path.normpath(target / rest))
                break
        else:
            return absolute, None
    return absolute, None


def _innermost(path: Path, ours: dict[Path, Mounted]) -> Path:
    return next(prefix for prefix in (path, *path.parents) if prefix in ours)
