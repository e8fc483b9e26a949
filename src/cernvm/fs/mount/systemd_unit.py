"""The systemd unit that keeps a mount, or all configured ones, over restarts of the machine.

Source: systemd.service(5), systemd.syntax(7), "Quoting".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_UNIT = """\
[Unit]
Description={description}
Documentation=man:fuse(8)
Wants=network-online.target
After=network-online.target

[Service]
# The command returns when the mount answers; who serves it stays in this unit.
Type=oneshot
RemainAfterExit=yes
Environment={home}
WorkingDirectory={folder}
ExecStart={start}
ExecStop={stop}
# Stopping unmounts first, so that no process is killed below a living mount.
KillMode=mixed
TimeoutStartSec=120
TimeoutStopSec=60

[Install]
WantedBy={target}
"""


def systemd_unit(
    start: Sequence[str],
    stop: Sequence[str],
    *,
    description: str,
    home: Path,
    folder: Path,
    is_root: bool,
) -> str:
    """The text of the unit; `start` and `stop` are whole commands, the program's absolute path first.

    Shape: `folder` is where relative paths in the commands begin.

    >>> print(systemd_unit(["/bin/cvm", "mount", "--url", "http://a/50%;b"], ["/bin/cvm", "umount", "/mnt/my data"],
    ...     description="x", home=Path("/h"), folder=Path("/"), is_root=True).splitlines()[12:14])
    ['ExecStart=/bin/cvm mount --url "http://a/50%%;b"', \
'ExecStop=/bin/cvm umount "/mnt/my data"']
    """
    return _UNIT.format(
        description=description.replace("%", "%%"),
        home=_quoted(f"CVM_HOME={home}", always=True, is_command=False),
        folder=str(folder).replace("%", "%%"),
        start=" ".join(_quoted(word) for word in start),
        stop=" ".join(_quoted(word) for word in stop),
        target="multi-user.target" if is_root else "default.target",
    )


def _quoted(word: str, *, always: bool = False, is_command: bool = True) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if is_command:  # variables are filled in there only
        escaped = escaped.replace("$", "$$")
    is_plain = bool(word) and all(letter.isalnum() or letter in "-_./:@=," for letter in word)
    return escaped if is_plain and not always else f'"{escaped}"'
