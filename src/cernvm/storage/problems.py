"""Errors to HTTP answers of the storage: the one table, and the problem document clients read.

A test walks the tree and fails when a leaf has no row.
Source: RFC 9457; docs/formats/storage.md, "Problems".
"""

from __future__ import annotations

from cernvm.core import errors

STATUSES: dict[type[errors.CvmError], int] = {
    errors.ConfigError: 500,
    errors.InvalidInputError: 400,
    errors.NotFoundError: 404,
    errors.ExistsError: 409,
    errors.DeniedError: 403,
    errors.PrerequisiteError: 500,
    errors.SignatureError: 401,
    errors.DigestMismatchError: 422,
    errors.ExpiredError: 401,
    errors.RollbackError: 500,
    errors.HostError: 502,
    errors.DeadlineError: 408,
    errors.SpaceError: 507,
    errors.BusError: 503,
    errors.TransactionOpenError: 409,
    errors.LeaseLostError: 409,
    errors.ChangedError: 409,
    errors.AddressInUseError: 500,
    errors.LetterFormatError: 500,
    errors.CatalogFormatError: 500,
    errors.ObjectFormatError: 500,
    errors.ContextFormatError: 400,
    errors.MessageFormatError: 400,
}

_GROUPS: dict[type[errors.CvmError], int] = {
    errors.UserError: 400,
    errors.TrustError: 500,
    errors.UnavailableError: 503,
    errors.ConflictError: 409,
    errors.FormatError: 400,
}

_LEAVES = {leaf.__name__: leaf for leaf in errors.leaves()}


def status_of(error: errors.CvmError) -> int:
    """The HTTP status for an error: its leaf's row, else its group's."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
        if kind in _GROUPS:
            return _GROUPS[kind]
    return 500


def to_problem(error: errors.CvmError) -> dict[str, object]:
    """The problem document of an error."""
    document: dict[str, object] = {
        "type": f"urn:cernvm:error:{type(error).__name__}",
        "status": status_of(error),
        "detail": error.what,
        "advice": error.advice,
    }
    if isinstance(error, errors.DigestMismatchError):
        document |= {"expected": error.expected, "got": error.got, "source": error.source}
    return document


def from_problem(document: object, *, status: int, url: str, path: str) -> errors.CvmError:
    """The error that a server's answer means; whatever is not understood is a `HostError`."""
    known = document if isinstance(document, dict) else {}
    name = str(known.get("type", "")).rpartition(":")[2]
    detail, advice = str(known.get("detail", ""))[:1000], str(known.get("advice", ""))[:1000]
    if name == "NotFoundError":
        return errors.NotFoundError("object", path, advice=advice)
    if name == "ExistsError":
        return errors.ExistsError("object", path)
    if name == "DigestMismatchError":
        texts = {key: str(known.get(key, ""))[:200] for key in ("expected", "got", "source")}
        return errors.DigestMismatchError(**texts)
    if name in _PLAIN:
        return _LEAVES[name](detail, advice=advice)
    return errors.HostError(url, detail or f"it answers {status}", status=status, advice=advice)


_PLAIN = {
    "InvalidInputError",
    "DeniedError",
    "SignatureError",
    "ExpiredError",
    "SpaceError",
}
