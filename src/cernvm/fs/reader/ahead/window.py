"""How much may be fetched ahead of one run of reads: nothing but numbers.

The rule is that of a connection's slow start: begin with what the link brings in some round trips, grow by what was
used, shrink by what was wasted, stop at the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST_BYTES = 64 * 1024
WALK_BYTES = 1 << 20
LARGEST_BYTES = 4 << 20
HELD_RTTS = 8  # a program that misses one file after another waits for as many
USUAL_BYTES_PER_S = 12_500_000


@dataclass(slots=True)
class Window:
    """Units: bytes as stored; `unused_bytes` were asked for and not used yet, on their way or here."""

    size_bytes: int
    unused_bytes: int = 0

    @property
    def is_hungry(self) -> bool:
        """Whether it is time to ask for more: half of the window is used up."""
        return 2 * self.unused_bytes <= self.size_bytes

    @property
    def has_room(self) -> bool:
        """Whether one thing more may be asked for; the last one may reach over the edge."""
        return self.unused_bytes < self.size_bytes

    def sent(self, size_bytes: int) -> None:
        """Something was asked for."""
        self.unused_bytes += size_bytes

    def returned(self, size_bytes: int) -> None:
        """Something did not come, or was smaller (larger, if negative) than was thought."""
        self.unused_bytes = max(0, self.unused_bytes - size_bytes)

    def used(self, size_bytes: int) -> None:
        """A reader took something."""
        self.unused_bytes = max(0, self.unused_bytes - size_bytes)
        if self.size_bytes < LARGEST_BYTES:
            self.size_bytes = min(LARGEST_BYTES, self.size_bytes + size_bytes)

    def wasted(self, size_bytes: int) -> None:
        """Something was given up: nobody wanted it, or it did not come."""
        self.unused_bytes = max(0, self.unused_bytes - size_bytes)
        self.size_bytes = max(SMALLEST_BYTES, self.size_bytes - size_bytes)


def first_window(rtt_s: float, bytes_per_s: float, *, is_walk: bool = False) -> Window:
    """The window of a run that has just begun: what the link brings in some round trips; more for a sure walk.

    Units: as `Link` has them, 0 while unknown.
    """
    held_bytes = int(HELD_RTTS * rtt_s * (bytes_per_s or USUAL_BYTES_PER_S))
    least_bytes = WALK_BYTES if is_walk else SMALLEST_BYTES
    return Window(min(max(held_bytes, least_bytes), LARGEST_BYTES // 2))
