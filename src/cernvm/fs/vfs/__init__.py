"""What a repository looks like as a file system, defined here and only here; knows nothing of FUSE.

Values (`attributes.py`): `Attributes`, `ListedName`, `FileSystemSize`. Flow: `View` (`view.py`) answers by inode
number; `inodes.py` gives the numbers, `magic.py` the extended attributes that tell about the client, `variant.py`
expands variant symlinks. Every answer comes from a `Repository` of `fs/reader`.

Waiting: a verb `x` may wait for the network until its deadline; `try_x` never waits and answers None when it would
have to. All other verbs answer from memory.
"""

from cernvm.fs.vfs.attributes import Attributes, FileSystemSize, ListedName
from cernvm.fs.vfs.inodes import ROOT_INODE
from cernvm.fs.vfs.settings import ViewSettings
from cernvm.fs.vfs.view import View

__all__ = ["ROOT_INODE", "Attributes", "FileSystemSize", "ListedName", "View", "ViewSettings"]
