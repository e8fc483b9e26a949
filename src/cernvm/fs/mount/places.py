"""From a path a person names to the mount it lies in, without touching any mount's file system: it may be sick."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.errors import NotFoundError
from cernvm.core.home import Home
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

    A mount that another user made is looked for where that user would have recorded it.
    Errors: `NotFoundError` when no mounted repository holds it, or its process left no record that can be read.
    """
    resolved, mounted = _resolve(path)
    if mounted is None:
        return _find_unmounted(resolved, run)
    inside = mounted.root / resolved.relative_to(mounted.point)
    owner = _owner_of(mounted)
    for folder in (run, *([owner.run] if owner else [])):
        for record in recorded_mounts(folder):
            if record.device == mounted.device and record.repository == mounted.source:
                return Place(record, str(inside))
    raise NotFoundError(
        "record of the mount at",
        str(mounted.point),
        advice=f"{owner.name if owner else 'another user'} mounted it, "
        "with a CVM_HOME that cannot be seen here: ask with that one",
    )


def resolve_point(path: Path) -> Path:
    """The absolute place of a mount point, links on the way to it resolved."""
    resolved, mounted = _resolve(path)
    return resolved if mounted else Path(os.path.realpath(resolved))


@dataclass(frozen=True, slots=True)
class _Owner:
    name: str
    run: Path


def _owner_of(mounted: Mounted) -> _Owner | None:
    """Who mounted it, and where that user keeps records unless told otherwise."""
    try:
        user = pwd.getpwuid(-1 if mounted.user_id is None else mounted.user_id)
    except (KeyError, OverflowError):
        return None
    return _Owner(user.pw_name, Home.from_environment({"HOME": user.pw_dir}).run)


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
            if _is_link(prefix):
                target = prefix.parent / prefix.readlink()
                rest = absolute.relative_to(prefix)
                absolute = Path(os.path.normpath(target / rest))
                break
        else:
            return absolute, None
    return absolute, None


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except PermissionError:
        return False  # a folder above lets us not look: the mount table tells of what lies below


def _innermost(path: Path, ours: dict[Path, Mounted]) -> Path:
    return next(prefix for prefix in (path, *path.parents) if prefix in ours)
