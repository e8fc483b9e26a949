"""What the answers of an S3 server mean; the texts of its errors never hold keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore import exceptions as boto_errors

from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    DeniedError,
    HostError,
    NotFoundError,
    PrerequisiteError,
    SpaceError,
)

_DENIED = {
    "AccessDenied", "AccountProblem", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken",
    "RequestTimeTooSkewed", "SignatureDoesNotMatch",
}  # fmt: skip
_FULL = {"QuotaExceeded", "EntityTooLarge", "InsufficientCapacity", "XMinioStorageFull"}


def code_of(error: boto_errors.ClientError) -> str:
    """The server's word for what is wrong, or the HTTP status where it sent none."""
    return str(_details(error).get("Code", ""))


def is_missing(error: boto_errors.ClientError) -> bool:
    """Whether an object is not there; a bucket that is not there is another matter."""
    return code_of(error) in ("NoSuchKey", "404", "NotFound")


def is_refused_condition(error: boto_errors.ClientError) -> bool:
    """Whether the condition of a conditional write did not hold."""
    return code_of(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def translate(error: Exception, *, where: str, path: str, timeout_s: float) -> CvmError:
    """What went wrong, for the caller; `where` is the store's address without credentials."""
    if isinstance(error, boto_errors.ClientError):
        return _from_answer(error, where, path)
    if isinstance(error, boto_errors.ReadTimeoutError | boto_errors.ConnectTimeoutError):
        return DeadlineError(f"asking {where}", after_s=timeout_s)
    if isinstance(error, boto_errors.NoCredentialsError | boto_errors.PartialCredentialsError):
        return PrerequisiteError(
            f"{where}: there are no keys for it",
            advice="name a file with them: --store-config FILE",
        )
    return HostError(where, _reason(error))


def _from_answer(error: boto_errors.ClientError, where: str, path: str) -> CvmError:
    code, text = code_of(error), str(_details(error).get("Message", ""))[:200]
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return NotFoundError("bucket", where, advice="make it with the tools of your provider")
    if is_missing(error):
        return NotFoundError("object", path)
    if code in _DENIED or status in (401, 403):
        return DeniedError(
            f"{where} refuses the keys: {text or code}",
            advice="check the keys in the store's file, and what they may do",
        )
    if code in _FULL or status == 507:
        return SpaceError(
            f"{where} is full: {text or code}", advice="raise the quota, or free some space"
        )
    return HostError(where, f"{code or status}: {text}".rstrip(": "), status=status)


def _details(error: boto_errors.ClientError) -> Mapping[str, Any]:
    details: Mapping[str, Any] = error.response.get("Error", {})
    return details


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
