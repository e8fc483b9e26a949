"""What is mounted where, read from the kernel's own table without touching any of the file systems in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ESCAPE = re.compile(rb"\\([0-7]{3})")
_USER_ID = re.compile(rb"(?:^|,)user_id=([0-9]{1,10})(?:,|$)")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One mount of this mount namespace.

    Shape: `device` is `major:minor`, which names the file system; `root` is the part of it that is shown, `/` but for
    bind mounts of a folder; `user_id` is who mounted it, None but for FUSE.
    """

    mount_id: int
    device: str
    root: Path
    point: Path
    kind: str
    source: str
    user_id: int | None = None


def mounts() -> list[Mounted]:
    """All mounts in the order in which they were made: of several at one point the last is the visible one."""
    return list(parse_mountinfo(Path("/proc/self/mountinfo").read_bytes()))


def mount_at(point: Path) -> Mounted | None:
    """The visible mount whose root is exactly `point`; links in the path are the caller's to resolve."""
    return next((mount for mount in reversed(mounts()) if mount.point == point), None)


def mount_of(path: Path) -> Mounted | None:
    """The visible mount that holds `path`."""
    holders = [mount for mount in mounts() if path.is_relative_to(mount.point)]
    deepest = max((len(mount.point.parts) for mount in holders), default=0)
    return next((m for m in reversed(holders) if len(m.point.parts) == deepest), None)


def parse_mountinfo(table: bytes) -> Iterator[Mounted]:
    """The rows of a mountinfo table. Source: proc(5), /proc/pid/mountinfo."""
    for line in table.splitlines():
        front, _, back = line.partition(b" - ")
        columns, tail = front.split(b" "), back.split(b" ")
        yield Mounted(
            mount_id=int(columns[0]),
            device=columns[2].decode(),
            root=_path(columns[3]),
            point=_path(columns[4]),
            kind=tail[0].decode(),
            source=os.fsdecode(_unescape(tail[1])),
            user_id=_user_id(tail[-1]),
        )


def _user_id(options: bytes) -> int | None:
    match = _USER_ID.search(options)
    return int(match[1]) if match else None


def _path(text: bytes) -> Path:
    return Path(os.fsdecode(_unescape(text)))


def _unescape(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), text)
