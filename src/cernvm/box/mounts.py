"""Mounts below a folder, so that nothing is ever deleted through one."""

from __future__ import annotations

import re
from pathlib import Path

from cernvm.core.linux import umount

_ESCAPED = re.compile(r"\\([0-7]{3})")


def mounts_below(folder: Path) -> list[Path]:
    """The mount points inside `folder` (itself excluded), the innermost and latest first."""
    table = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    points = [Path(_unescape(line.split()[4])) for line in table.splitlines()]
    root = folder.absolute()
    return [point for point in reversed(points) if point != root and point.is_relative_to(root)]


def unmount_below(folder: Path) -> list[Path]:
    """Take away every mount inside `folder`, busy or dead; returns where they were. Errors: `OSError`."""
    found = mounts_below(folder)
    for point in found:
        umount(point, detach=True)
    return found


def _unescape(text: str) -> str:
    """The kernel writes blanks and backslashes as octal numbers."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
