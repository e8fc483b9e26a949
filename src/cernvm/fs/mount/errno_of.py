"""Errors to errno: what a program sees that reads from a mount; a test walks the tree and fails when a leaf has no row.

Whatever keeps verified content from being served is EIO: a program can do nothing about it but stop, and a person finds
the reason in the log and by `cvm why`.
"""

from __future__ import annotations

import errno

from cernvm.core import errors

ERRNOS: dict[type[errors.CvmError], int] = {
    errors.ConfigError: errno.EINVAL,
    errors.InvalidInputError: errno.EINVAL,
    errors.NotFoundError: errno.ENOENT,
    errors.ExistsError: errno.EEXIST,
    errors.DeniedError: errno.EACCES,
    errors.PrerequisiteError: errno.EIO,
    errors.SignatureError: errno.EIO,
    errors.DigestMismatchError: errno.EIO,
    errors.ExpiredError: errno.EIO,
    errors.RollbackError: errno.EIO,
    errors.HostError: errno.EIO,
    errors.DeadlineError: errno.EIO,
    errors.SpaceError: errno.EIO,
    errors.BusError: errno.EIO,
    errors.TransactionOpenError: errno.EBUSY,
    errors.LeaseLostError: errno.ESTALE,
    errors.ChangedError: errno.EBUSY,
    errors.AddressInUseError: errno.EADDRINUSE,
    errors.LetterFormatError: errno.EIO,
    errors.CatalogFormatError: errno.EIO,
    errors.ObjectFormatError: errno.EIO,
    errors.ContextFormatError: errno.EIO,
    errors.MessageFormatError: errno.EIO,
}


def errno_of(error: errors.CvmError) -> int:
    """The errno for an error: its leaf's row, else EIO."""
    for kind in type(error).__mro__:
        if kind in ERRNOS:
            return ERRNOS[kind]
    return errno.EIO
