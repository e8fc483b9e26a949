"""What the operating system refused, as an error with the next step."""

from __future__ import annotations

import errno

from cernvm.core.errors import (
    CvmError,
    DeniedError,
    InvalidInputError,
    NotFoundError,
    SpaceError,
)


def from_os(error: OSError) -> CvmError:
    """The error of this system that an edge tells in place of one that nobody foresaw."""
    place = f"{error.filename}: " if error.filename else ""
    reason = f"{place}{error.strerror or error}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            advice = "free some space, or set CVM_HOME to a folder on another disk"
            return SpaceError(reason, advice=advice)
        case errno.EACCES | errno.EPERM:
            return DeniedError(reason, advice="check the owner and mode of that path")
        case errno.EROFS:
            advice = "choose a place that may be written; CVM_HOME is where cvm keeps its state"
            return DeniedError(reason, advice=advice)
        case errno.ENOENT if error.filename:
            advice = "check the name, and that the folder it is to be in exists"
            return NotFoundError("file or folder", str(error.filename), advice=advice)
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST:
            return InvalidInputError(reason, advice="name another path, or another CVM_HOME")
    return CvmError(reason, advice="--debug shows where it happened")
