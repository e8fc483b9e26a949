"""How long to wait before asking again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff_s(
    *, initial_s: float, maximum_s: float, jitter: random.Random | None = None
) -> Iterator[float]:
    """Endless waits in seconds: a random part of `initial_s` first, then doubling up to `maximum_s`.

    >>> waits = backoff_s(initial_s=2, maximum_s=10, jitter=random.Random(1))
    >>> all(0 <= next(waits) <= 10 for _ in range(20))
    True
    """
    source = jitter or random.Random()
    wait_s = source.uniform(0, initial_s)
    while True:
        yield wait_s
        wait_s = min(maximum_s, 2 * wait_s if wait_s > 0 else initial_s)
