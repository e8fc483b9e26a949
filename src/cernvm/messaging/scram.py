"""A password's verifier as the bus's server keeps it: it can check the password, and cannot be turned back into it.

Source: RFC 5802, section 3.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

ITERATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a SCRAM-SHA-1 server stores of one account."""

    salt: str
    iterations: int
    stored_key: bytes
    server_key: bytes


def make_verifier(password: str, salt: str, *, iterations: int = ITERATIONS) -> Verifier:
    """The verifier of an ASCII password under a fresh salt.

    >>> make_verifier("pencil", "a-fresh-salt", iterations=4096).stored_key.hex()[:8]
    'ceba0d68'
    """
    salted = hashlib.pbkdf2_hmac("sha1", password.encode("ascii"), salt.encode(), iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha1")
    return Verifier(
        salt,
        iterations,
        stored_key=hashlib.sha1(client_key).digest(),
        server_key=hmac.digest(salted, b"Server Key", "sha1"),
    )
