"""What may be chosen about the conversation with the kernel, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

READER_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class KernelSettings:
    """How a mount answers. Units: a reader gets data or an error within `reader_deadline_s`."""

    reader_deadline_s: float = READER_DEADLINE_S
