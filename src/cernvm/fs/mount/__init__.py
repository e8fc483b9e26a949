"""A mounted repository: the reader's view, served to the kernel, followed, recorded, and open to questions.

Values: `MountSettings` (`settings.py`), `LiveMount` (`service.py`), `MountRecord` (`record.py`), `Place`
(`places.py`). Flow: `mount_repository` opens the client and attaches it by `fs/fuse`; `Service` serves it until it is
unmounted, or leaves it to a process that does `take_over`: `office.py` is the line to the small `holder.py`, which
keeps the mount meanwhile, `succession.py` what is handed over;
`view_operations.py` turns the view's errors into errno (`errno_of.py`); `follow.py` brings new revisions; `control.py`
answers what `ask` asks, also about a path (`explanation.py`). `background.py` starts a mount that outlives its command;
`ending.py` ends one, dead or alive.
"""

from cernvm.fs.mount.background import Report, Started, start_in_background
from cernvm.fs.mount.control import ask
from cernvm.fs.mount.ending import unmount
from cernvm.fs.mount.errno_of import ERRNOS, errno_of
from cernvm.fs.mount.mounting import mount_repository, take_over
from cernvm.fs.mount.places import Place, find_place, resolve_point
from cernvm.fs.mount.record import MountRecord, recorded_mount, recorded_mounts
from cernvm.fs.mount.service import LiveMount
from cernvm.fs.mount.settings import MountSettings

__all__ = [
    "ERRNOS",
    "LiveMount",
    "MountRecord",
    "MountSettings",
    "Place",
    "Report",
    "Started",
    "ask",
    "errno_of",
    "find_place",
    "mount_repository",
    "recorded_mount",
    "recorded_mounts",
    "resolve_point",
    "start_in_background",
    "take_over",
    "unmount",
]
