"""What may be chosen about the conversation with the kernel, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from cernvm.core.errors import ConfigError

READER_DEADLINE_S = 30.0
MOST_KNOWN_INODES = 150_000  # some 100 MB of ours
OPENINGS = ("auto", "no-open", "keep-cache", "passthrough")


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """How a mount answers.

    Shape: `opening` is one of `OPENINGS` (docs/decisions/kernel-caching.md); without `epochs` a mount behaves as on
    kernels before 6.16, without `resend` as before 6.9. Units: a reader gets data or an error within
    `reader_deadline_s`; files that are smaller than `passthrough_from_bytes` are not worth a descriptor of the
    kernel's own.
    Errors: `ConfigError`.
    """

    reader_deadline_s: float = READER_DEADLINE_S
    opening: str = "auto"
    passthrough_from_bytes: int = 1 << 20
    epochs: bool = True
    most_known_inodes: int = MOST_KNOWN_INODES
    resend: bool = True

    def __post_init__(self) -> None:
        if self.opening not in OPENINGS:
            known = ", ".join(OPENINGS)
            raise ConfigError(f"{self.opening!r} is none of {known}", key="opening")
