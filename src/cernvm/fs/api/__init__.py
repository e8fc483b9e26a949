"""Reading repositories from Python, without any mount: for programs, `cvm fs` and fsspec.

Flow: `locate` (`locating.py`) finds where a repository comes from and what vouches for it; `open_repository`
(`opened.py`) opens one revision and gives an `OpenRepository`, whose `RepositoryPath`s (`path.py`) read like
`pathlib`'s. Below them `Files` (`files.py`) walks the view of `fs/vfs` by path, links included, each wait bounded;
`stream.py` makes an open file a binary stream; `copying.py` copies trees out; `fsspec_files.py` is the same to fsspec.

Errors: paths raise `OSError`s as `pathlib` does, whose `__cause__` is the `CvmError` that says why; all else raises
`CvmError`s. Concurrency: everything is safe from any thread; nothing survives a fork but a pickle of fsspec's.
"""

from cernvm.fs.api.files import Files, Listed, OpenFile
from cernvm.fs.api.locating import Wanted, locate, locate_mount
from cernvm.fs.api.opened import OpenRepository, open_repository
from cernvm.fs.api.path import RepositoryPath
from cernvm.fs.reader import Pin

__all__ = [
    "Files",
    "Listed",
    "OpenFile",
    "OpenRepository",
    "Pin",
    "RepositoryPath",
    "Wanted",
    "locate",
    "locate_mount",
    "open_repository",
]
