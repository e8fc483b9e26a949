"""What the kernel's refusals mean to whoever asked a site for something."""

from __future__ import annotations

import errno
import os

from cernvm.core.errors import (
    CvmError,
    InvalidInputError,
    PrerequisiteError,
    SpaceError,
    UnavailableError,
)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENODEV, errno.EINVAL)
_WRONG_TREE = (errno.ENOTDIR, errno.ELOOP)


def refusal(what: str, number: int | None, path: str = "") -> CvmError:
    """The error for `what` (as in "i-0001 cannot start: mount /proc") that the kernel answered with an errno."""
    reason = os.strerror(number) if number else "no reason given"
    text = f"{what}: {path}: {reason}" if path else f"{what}: {reason}"
    if number in _NO_SPACE:
        return SpaceError(text, advice="free some space, or terminate instances")
    if number in _NOT_ALLOWED:
        return PrerequisiteError(
            text,
            advice="the machine must allow namespaces, proc and overlay mounts, and CVM_HOME lie on an ordinary disk",
        )
    if number in _WRONG_TREE:
        return InvalidInputError(
            text, advice="publish an operating system where that path is a folder"
        )
    return UnavailableError(text, advice="see docs/how-to/site-hypervisor.md")
