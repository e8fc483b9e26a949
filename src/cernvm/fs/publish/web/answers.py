"""What a request's headers mean for a file that exists: all of it, a part of it, or nothing new.

Source: RFC 9110, sections 13 (conditions) and 14 (ranges). One range is served; of several, all is sent, as the RFC
allows. Nothing is ever sent compressed: objects are already, and their digests are over their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_TAG = re.compile(r'(?:W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file; `modified_at` is None where its store does not tell."""

    size_bytes: int
    tag: str
    modified_at: datetime | None
    content_type: str
    cache_control: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer, and which bytes follow it where the method is GET."""

    status: HTTPStatus
    headers: tuple[tuple[str, str], ...]
    first: int = 0
    length: int = 0


def answer(facts: Facts, asked: Mapping[str, str]) -> Answer:
    """The answer to a GET or HEAD; `asked` has the request's headers by their lower-case names."""
    headers = [("ETag", facts.tag), ("Cache-Control", facts.cache_control)]
    if facts.modified_at is not None:
        headers.append(("Last-Modified", format_datetime(_seconds(facts.modified_at), usegmt=True)))
    if _is_known(facts, asked):
        return Answer(HTTPStatus.NOT_MODIFIED, tuple(headers))
    headers += [("Content-Type", facts.content_type), ("Accept-Ranges", "bytes")]
    size = facts.size_bytes
    part = _part(facts, asked)
    if part is None:
        return Answer(HTTPStatus.OK, (*headers, ("Content-Length", str(size))), 0, size)
    first, last = part
    if first > last:
        headers += [("Content-Range", f"bytes */{size}"), ("Content-Length", "0")]
        return Answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, tuple(headers))
    length = last - first + 1
    headers += [("Content-Range", f"bytes {first}-{last}/{size}"), ("Content-Length", str(length))]
    return Answer(HTTPStatus.PARTIAL_CONTENT, tuple(headers), first, length)


def _is_known(facts: Facts, asked: Mapping[str, str]) -> bool:
    """Whether the asker has these very bytes already."""
    tags = asked.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or facts.tag in _TAG.findall(tags)
    since = _date(asked.get("if-modified-since", ""))
    return (
        since is not None and facts.modified_at is not None and _seconds(facts.modified_at) <= since
    )


def _part(facts: Facts, asked: Mapping[str, str]) -> tuple[int, int] | None:
    """First and last byte of the range that is asked for; the first behind the last where there is none such."""
    match = _RANGE.fullmatch(asked.get("range", "").strip())
    if match is None or match[1] == match[2] == "":
        return None
    # a range of what may be another version would be joined with the wrong bytes
    if asked.get("if-range", facts.tag).strip() != facts.tag:
        return None
    end = facts.size_bytes - 1
    if match[1] == "":
        wanted = int(match[2])
        return (max(0, end + 1 - wanted), end) if wanted and facts.size_bytes else (1, 0)
    first = int(match[1])
    last = min(int(match[2]), end) if match[2] else end
    if match[2] and int(match[2]) < first:
        return None
    return (first, last) if first <= end else (1, 0)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _seconds(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)
