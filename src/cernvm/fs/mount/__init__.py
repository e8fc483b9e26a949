"""A mounted repository: the reader's view, served to the kernel, followed, recorded, and open to questions.

Values: `MountSettings` (`settings.py`), `LiveMount` (`service.py`), `MountRecord` (`record.py`), `Place`
(`places.py`). Flow: `mount_repository` opens the client and attaches it by `fs/fuse`; `Service` serves it until it is
unmounted, or leaves it to a process that does `take_over`: `office.py` is the line to the small `holder.py`, which
keeps the mount meanwhile, `succession.py` what is handed over;
`view_operations.py` turns the view's errors into errno (`errno_of.py`); `follow.py` brings new revisions; `control.py`
answers what `ask` asks, also about a path (`explanation.py`). `background.py` starts a mount that outlives its command;
`ending.py` ends one, dead or alive.
"""

from typing import TYPE_CHECKING

from cernvm.core.on_demand import on_demand

if TYPE_CHECKING:
    from cernvm.fs.mount.background import Report, Started, start_in_background
    from cernvm.fs.mount.control import ask
    from cernvm.fs.mount.ending import unmount
    from cernvm.fs.mount.mounting import mount_repository, take_over
    from cernvm.fs.mount.places import Place, find_place, resolve_point
    from cernvm.fs.mount.record import MountRecord, recorded_mount, recorded_mounts
    from cernvm.fs.mount.service import LiveMount
    from cernvm.fs.mount.settings import MountSettings
else:
    __getattr__ = on_demand(
        __name__,
        {
            "Report": "background",
            "Started": "background",
            "start_in_background": "background",
            "ask": "control",
            "unmount": "ending",
            "mount_repository": "mounting",
            "take_over": "mounting",
            "Place": "places",
            "find_place": "places",
            "resolve_point": "places",
            "MountRecord": "record",
            "recorded_mount": "record",
            "recorded_mounts": "record",
            "LiveMount": "service",
            "MountSettings": "settings",
        },
    )

__all__ = [
    "LiveMount",
    "MountRecord",
    "MountSettings",
    "Place",
    "Report",
    "Started",
    "ask",
    "find_place",
    "mount_repository",
    "recorded_mount",
    "recorded_mounts",
    "resolve_point",
    "start_in_background",
    "take_over",
    "unmount",
]
