"""Everything that can go wrong, grouped by what the caller can do about it.

::

    CvmError
    ├── UserError            the request is wrong: fix it
    │   ├── ConfigError            a setting is unknown or of the wrong kind
    │   ├── InvalidInputError      an argument or document makes no sense
    │   ├── NotFoundError          it does not exist
    │   ├── ExistsError            it exists already
    │   ├── DeniedError            you may not
    │   └── PrerequisiteError      the machine lacks a program, a device or a right
    ├── TrustError           the bytes are not what was signed: stop
    │   ├── SignatureError         a signature or fingerprint does not verify
    │   ├── DigestMismatchError    content differs from its name
    │   ├── ExpiredError           it was valid once
    │   └── RollbackError          an older revision was offered
    ├── UnavailableError     not now, or not from there: try again or elsewhere
    │   ├── HostError              a server answered badly or not at all
    │   ├── DeadlineError          it took longer than allowed
    │   ├── SpaceError             a disk or a quota is full
    │   └── BusError               the message bus is gone
    ├── ConflictError        somebody was faster
    │   ├── TransactionOpenError   another publisher is at work
    │   ├── LeaseLostError         the lease went to somebody else
    │   ├── AddressInUseError      another program has that port
    │   └── ChangedError           it was written to while it was read
    └── FormatError          it cannot be parsed
        ├── LetterFormatError      manifest or whitelist
        ├── CatalogFormatError     catalog, history or reflog database
        ├── ObjectFormatError      an object's compression, a pack or a profile
        ├── ContextFormatError     user-data or template
        └── MessageFormatError     a message of the bus

An error carries fields for programs and builds its text for people: what happened, to what, and, as `advice`,
what to do next. Edges translate by one table each: `cli/exit.py`, `site/problems.py`, `fs/mount/errno_of.py`.
Only an `UnavailableError` may be retried; a `TrustError` is never retried on the same host.
"""

from __future__ import annotations

from collections.abc import Iterator


class CvmError(Exception):
    """Anything this system reports on purpose; `str()` is one sentence for a person."""

    advice: str = ""

    def __init__(self, what: str, *, advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        if advice:
            self.advice = advice


class UserError(CvmError):
    """The request is wrong; repeating it unchanged cannot help."""


class ConfigError(UserError):
    """A setting is unknown, missing or of the wrong kind."""

    def __init__(
        self, reason: str, *, source: str = "", section: str = "", key: str = "", advice: str = ""
    ) -> None:
        place = ", ".join(part for part in (source, section and f"[{section}]", key) if part)
        super().__init__(f"{place}: {reason}" if place else reason, advice=advice)
        self.source, self.section, self.key = source, section, key


class InvalidInputError(UserError):
    """An argument, request or document makes no sense."""


class NotFoundError(UserError):
    """What was asked for does not exist."""

    def __init__(self, kind: str, name: str, *, advice: str = "") -> None:
        super().__init__(f"there is no {kind} {name!r}", advice=advice)
        self.kind, self.name = kind, name


class ExistsError(UserError):
    """What was to be made exists already."""

    def __init__(self, kind: str, name: str, *, advice: str = "") -> None:
        super().__init__(f"the {kind} {name!r} exists already", advice=advice)
        self.kind, self.name = kind, name


class DeniedError(UserError):
    """The caller may not do this."""


class PrerequisiteError(UserError):
    """This machine lacks a program, a device or a right that the action needs."""


class TrustError(CvmError):
    """The bytes are not what was signed; nothing of them may be used."""


class SignatureError(TrustError):
    """A signature, certificate or fingerprint does not verify."""


class DigestMismatchError(TrustError):
    """Content that does not have the digest by which it was asked for."""

    def __init__(self, *, expected: str, got: str, source: str) -> None:
        super().__init__(
            f"{source} is damaged or forged: its digest is {got}, not {expected}",
            advice="the copy there must be replaced; other hosts are tried by themselves",
        )
        self.expected, self.got, self.source = expected, got, source


class ExpiredError(TrustError):
    """A whitelist, certificate or token that was valid once."""


class RollbackError(TrustError):
    """An older revision than the one already known was offered."""


class UnavailableError(CvmError):
    """Not now, or not from there; `retry_after_s` is a hint in seconds, 0 when unknown."""

    def __init__(self, what: str, *, advice: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(what, advice=advice)
        self.retry_after_s = retry_after_s


class HostError(UnavailableError):
    """A server answered badly or not at all; `status` is the HTTP status, 0 without an answer."""

    advice = "check the address, that the server runs, and that it can be reached from here"

    def __init__(self, url: str, reason: str, *, status: int = 0, advice: str = "") -> None:
        super().__init__(f"{url}: {reason}", advice=advice)
        self.url, self.reason, self.status = url, reason, status


class DeadlineError(UnavailableError):
    """An action took longer than its deadline allowed."""

    def __init__(self, action: str, *, after_s: float, advice: str = "") -> None:
        super().__init__(f"{action} took longer than {after_s:g} s", advice=advice)
        self.action, self.after_s = action, after_s


class SpaceError(UnavailableError):
    """A disk or a quota is full."""


class BusError(UnavailableError):
    """The message bus is not connected or refused a message."""


class ConflictError(CvmError):
    """Somebody was faster; look again before repeating the request."""


class TransactionOpenError(ConflictError):
    """Another publisher holds the repository."""


class LeaseLostError(ConflictError):
    """The lease under which this work was done has passed to somebody else."""


class AddressInUseError(ConflictError):
    """Another program listens on the address that was asked for."""

    def __init__(self, address: str, *, advice: str = "") -> None:
        super().__init__(
            f"another program listens on {address}",
            advice=advice or "choose another --port, or 0 for a free one",
        )
        self.address = address


class ChangedError(ConflictError):
    """What was being read was written to meanwhile; trying again when it is quiet may well succeed."""


class FormatError(CvmError):
    """Bytes that cannot be parsed; `where` names the document, `field` or `line` the place in it."""

    def __init__(
        self, reason: str, *, where: str = "", field: str = "", line: int = 0, advice: str = ""
    ) -> None:
        place = where + (f", line {line}" if line else "") + (f", {field}" if field else "")
        super().__init__(f"{place}: {reason}" if place else reason, advice=advice)
        self.reason, self.where, self.field, self.line = reason, where, field, line


class LetterFormatError(FormatError):
    """A manifest or whitelist that is not well formed."""


class CatalogFormatError(FormatError):
    """A catalog, history or reflog database that is not well formed."""


class ObjectFormatError(FormatError):
    """An object whose bytes are no valid compressed stream, pack or profile."""


class ContextFormatError(FormatError):
    """User-data or a template that is not well formed."""


class MessageFormatError(FormatError):
    """A message of the bus that is not well formed."""


def leaves(root: type[CvmError] = CvmError) -> Iterator[type[CvmError]]:
    """Every error class of this tree without subclasses in it, in its order; tables and the reference page walk it."""
    children = [child for child in root.__subclasses__() if child.__module__ == __name__]
    if not children:
        yield root
    for child in children:
        yield from leaves(child)
