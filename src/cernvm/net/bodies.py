"""How long the body of a request is that a server got, said so that nobody on the way can have read it otherwise.

Who reads it otherwise takes the end of one request for the beginning of the next, which may be another person's.
Source: RFC 9112, sections 6.1 and 6.3.
"""

from __future__ import annotations

from email.message import Message


def body_bytes(headers: Message) -> int | None:
    """What the head of a request announces; None where that is not beyond doubt: the connection must end then."""
    lengths = headers.get_all("Content-Length", [])
    # a line that the parser takes for no header ends the head for it, but not for everybody
    if headers.defects or "Transfer-Encoding" in headers or len(lengths) > 1:
        return None
    text = lengths[0] if lengths else "0"
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
