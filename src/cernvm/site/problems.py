"""Errors to EC2's error codes and HTTP statuses: the one table; a test walks the tree and fails without a row.

Server-side codes (status 500 and above) are those that clients repeat by themselves; nothing that only the caller can
mend may be among them.
Source: docs/formats/ec2.md, "Errors".
"""

from __future__ import annotations

from dataclasses import dataclass

from cernvm.core import errors


@dataclass(frozen=True, slots=True)
class Problem:
    """What a client is told: EC2's error code, the HTTP status, one sentence."""

    code: str
    status: int
    message: str


CODES: dict[type[errors.CvmError], tuple[str, int]] = {
    errors.ConfigError: ("InternalFailure", 500),
    errors.InvalidInputError: ("InvalidParameterValue", 400),
    errors.NotFoundError: ("InvalidParameterValue", 400),
    errors.ExistsError: ("IdempotentParameterMismatch", 400),
    errors.DeniedError: ("AuthFailure", 401),
    errors.PrerequisiteError: ("UnsupportedHostConfiguration", 400),
    errors.SignatureError: ("SignatureDoesNotMatch", 403),
    errors.DigestMismatchError: ("InternalFailure", 500),
    errors.ExpiredError: ("RequestExpired", 400),
    errors.RollbackError: ("InternalFailure", 500),
    errors.HostError: ("Unavailable", 503),
    errors.DeadlineError: ("RequestTimeout", 503),
    errors.SpaceError: ("InstanceLimitExceeded", 400),
    errors.BusError: ("Unavailable", 503),
    errors.TransactionOpenError: ("IncorrectInstanceState", 400),
    errors.LeaseLostError: ("IncorrectInstanceState", 400),
    errors.ChangedError: ("IncorrectInstanceState", 400),
    errors.AddressInUseError: ("InternalFailure", 500),
    errors.LetterFormatError: ("InternalFailure", 500),
    errors.CatalogFormatError: ("InternalFailure", 500),
    errors.ObjectFormatError: ("InternalFailure", 500),
    errors.ContextFormatError: ("InvalidParameterValue", 400),
    errors.MessageFormatError: ("MalformedQueryString", 400),
}

_GROUPS: dict[type[errors.CvmError], tuple[str, int]] = {
    errors.UserError: ("InvalidParameterValue", 400),
    errors.TrustError: ("AuthFailure", 401),
    errors.UnavailableError: ("Unavailable", 503),
    errors.ConflictError: ("IncorrectInstanceState", 400),
    errors.FormatError: ("MalformedQueryString", 400),
}

_NOT_FOUND = {
    "instance": "InvalidInstanceID.NotFound",
    "image": "InvalidAMIID.NotFound",
    "action": "InvalidAction",
}


def problem(error: errors.CvmError) -> Problem:
    """What to tell a client about an error."""
    code, status = _row(error)
    if isinstance(error, errors.NotFoundError):
        code = _NOT_FOUND.get(error.kind, code)
    advice = f" ({error.advice})" if error.advice else ""
    return Problem(code, status, f"{error.what}{advice}")


def _row(error: errors.CvmError) -> tuple[str, int]:
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
        if kind in _GROUPS:
            return _GROUPS[kind]
    return ("InternalFailure", 500)
