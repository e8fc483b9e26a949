"""What is made of one answer: whether it brings what was asked for, and its body poured into a sink."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from cernvm.core.errors import HostError
from cernvm.net.outcome import Outcome, outcome_of
from cernvm.net.port import Answer, Sink

T = TypeVar("T")

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)")


def judge(answer: Answer, byte_range: tuple[int, int] | None, *, via_proxy: bool) -> Outcome | None:
    """What an answer says of its route; None for one that brings exactly the bytes that were asked for."""
    if byte_range is None:
        return outcome_of(answer.status, answer.headers, via_proxy=via_proxy)
    if answer.status != 206:
        blamed = outcome_of(answer.status, answer.headers, via_proxy=via_proxy)
        return (
            blamed or Outcome.HOST
        )  # the whole document would do, but may be a thousand times the part
    sent = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    is_right = sent is not None and (int(sent[1]), int(sent[2])) == byte_range
    return None if is_right else Outcome.HOST


def pour(
    answer: Answer,
    sink: Sink[T],
    url: str,
    limit_bytes: int,
    *,
    on_received: Callable[[int], None],
) -> T:
    """Move the body into the sink; a body over the limit is refused before it fills anything."""
    too_large = f"the answer is larger than {limit_bytes} bytes"
    received = 0
    try:
        if _announced_bytes(answer) > limit_bytes:
            raise HostError(url, too_large, status=200)
        for part in answer.parts():
            received += len(part)
            if received > limit_bytes:
                raise HostError(url, too_large, status=200)
            sink.write(part)
        return sink.finish()
    finally:
        sink.discard()
        on_received(received)


def retry_after_s(answer: Answer) -> float:
    """How long the server asks to be left alone; 0 when it does not say so in seconds."""
    text = answer.headers.get("retry-after", "")
    return float(text) if len(text) < 6 and text.isascii() and text.isdigit() else 0.0


def _announced_bytes(answer: Answer) -> int:
    length = answer.headers.get("content-length", "")
    return int(length[:20]) if length.isascii() and length.isdigit() else 0
