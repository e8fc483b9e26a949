"""What a repository looks like as a file system, defined here and only here; knows nothing of FUSE.

Values (`attributes.py`): `Attributes`, `ListedName`, `FileSystemSize`. Flow: `View` (`view.py`) answers by inode
number; `inodes.py` gives the numbers, `ledger.py` keeps them for the process that serves next, `listing.py` orders a
directory's names, `kept.py` keeps the latest listings for look-ups, `magic.py` tells about the client in extended
attributes, `variant.py` expands variant symlinks, `owners.py` shows other owners, `recorder.py` notes what is read
first. Every answer comes from a `Repository` of `fs/reader`.

Waiting: a verb `x` may wait for the network until its deadline; `try_x` never waits and answers None when it would
have to. All other verbs answer from memory.
"""

from cernvm.fs.vfs.attributes import Attributes, FileSystemSize, ListedName
from cernvm.fs.vfs.inodes import ROOT_INODE, DormantInodeError
from cernvm.fs.vfs.ledger import InodeLedger
from cernvm.fs.vfs.magic import Magic, MagicSettings
from cernvm.fs.vfs.owners import OwnerSettings, parse_id_map
from cernvm.fs.vfs.recorder import Recorder
from cernvm.fs.vfs.settings import ViewSettings
from cernvm.fs.vfs.view import View

__all__ = [
    "ROOT_INODE",
    "Attributes",
    "DormantInodeError",
    "FileSystemSize",
    "InodeLedger",
    "ListedName",
    "Magic",
    "MagicSettings",
    "OwnerSettings",
    "Recorder",
    "View",
    "ViewSettings",
    "parse_id_map",
]
