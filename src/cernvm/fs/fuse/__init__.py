"""The kernel's FUSE protocol, spoken on /dev/fuse itself; knows nothing of repositories.

Values: `values.py`; bytes: `protocol.py`. Port: `Operations` (`operations.py`), what a read-only file system answers;
its twin in memory is `MemoryTree`. Flow: `attach` (`mountpoint.py`) mounts and gives a descriptor, `Session.serve`
(`session.py`) reads requests from it, `answers.py` turns each into a verb of the port and back, `opening.py` decides
how the kernel reads an open file, `workers.py` waits for what is not at hand, `Notifier` tells the kernel what changed.
`in_hand.py` and `open_ledger.py` keep what a process that takes over has to know (`Session.resume`).
`mountinfo.py` reads the table of mounts.
"""

from cernvm.fs.fuse.in_hand import RequestsInHand
from cernvm.fs.fuse.memory import MemoryNode, MemoryTree
from cernvm.fs.fuse.mountinfo import Mounted, mount_at, mount_of, mounts
from cernvm.fs.fuse.mountpoint import KIND, attach, detach, is_dead, sweep
from cernvm.fs.fuse.notify import Notifier
from cernvm.fs.fuse.open_ledger import OpenLedger
from cernvm.fs.fuse.operations import Child, MustWaitError, Operations, Patience
from cernvm.fs.fuse.protocol import ROOT_INODE
from cernvm.fs.fuse.session import Heritage, Session
from cernvm.fs.fuse.settings import MOST_KNOWN_INODES, OPENINGS, READER_DEADLINE_S, KernelSettings
from cernvm.fs.fuse.values import Attributes, Space, Validity

__all__ = [
    "KIND",
    "MOST_KNOWN_INODES",
    "OPENINGS",
    "READER_DEADLINE_S",
    "ROOT_INODE",
    "Attributes",
    "Child",
    "Heritage",
    "KernelSettings",
    "MemoryNode",
    "MemoryTree",
    "Mounted",
    "MustWaitError",
    "Notifier",
    "OpenLedger",
    "Operations",
    "Patience",
    "RequestsInHand",
    "Session",
    "Space",
    "Validity",
    "attach",
    "detach",
    "is_dead",
    "mount_at",
    "mount_of",
    "mounts",
    "sweep",
]
