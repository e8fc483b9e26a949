"""Errors to exit codes: the one table that scripts rely on; a test walks the tree and fails when a leaf has no row."""

from __future__ import annotations

from cernvm.core import errors

INTERNAL_ERROR = 1
USAGE_ERROR = 2
INTERRUPTED = 130

EXIT_CODES: dict[type[errors.CvmError], int] = {
    errors.ConfigError: 10,
    errors.InvalidInputError: 11,
    errors.NotFoundError: 12,
    errors.ExistsError: 13,
    errors.DeniedError: 14,
    errors.PrerequisiteError: 15,
    errors.SignatureError: 20,
    errors.DigestMismatchError: 21,
    errors.ExpiredError: 22,
    errors.RollbackError: 23,
    errors.HostError: 30,
    errors.DeadlineError: 31,
    errors.SpaceError: 32,
    errors.BusError: 33,
    errors.TransactionOpenError: 40,
    errors.LeaseLostError: 41,
    errors.AddressInUseError: 42,
    errors.ChangedError: 43,
    errors.LetterFormatError: 50,
    errors.CatalogFormatError: 51,
    errors.ObjectFormatError: 52,
    errors.ContextFormatError: 53,
    errors.MessageFormatError: 54,
}

_GROUPS: dict[type[errors.CvmError], int] = {
    errors.UserError: 11,
    errors.TrustError: 20,
    errors.UnavailableError: 30,
    errors.ConflictError: 40,
    errors.FormatError: 50,
}


def exit_code(error: errors.CvmError) -> int:
    """The exit code for an error: its leaf's row, else its group's."""
    for kind in type(error).__mro__:
        if kind in EXIT_CODES:
            return EXIT_CODES[kind]
        if kind in _GROUPS:
            return _GROUPS[kind]
    return INTERNAL_ERROR
