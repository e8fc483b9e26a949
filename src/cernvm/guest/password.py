"""Password hashes of the form `$6$salt$…`, which /etc/shadow and every login program understand.

Python's own binding is gone from its newer versions, and a minimal image has no other program for it.
Source: "Unix crypt using SHA-256 and SHA-512", Ulrich Drepper, 2007, with its default of 5000 rounds.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS = 5000
_SALT_LETTERS = 16


def hash_password(password: str, salt: str = "") -> str:
    """The hash of a password, with a random salt unless one is given."""
    salt = salt or "".join(secrets.choice(_ALPHABET) for _ in range(_SALT_LETTERS))
    return f"$6${salt}${_encode(_digest(password.encode(), salt.encode()))}"


def matches(password: str, hashed: str) -> bool:
    """Whether `hashed` is the hash of this password."""
    parts = hashed.split("$")
    if len(parts) != 4 or parts[1] != "6":
        return False
    return hmac.compare_digest(hash_password(password, parts[2]), hashed)


def _digest(password: bytes, salt: bytes) -> bytes:
    inner = hashlib.sha512(password + salt + password).digest()
    start = password + salt + _stretch(inner, len(password))
    length = len(password)
    while length:
        start += inner if length & 1 else password
        length >>= 1
    current = hashlib.sha512(start).digest()
    password_part = _stretch(hashlib.sha512(password * len(password)).digest(), len(password))
    salt_part = _stretch(hashlib.sha512(salt * (16 + current[0])).digest(), len(salt))
    for number in range(_ROUNDS):
        first, last = (password_part, current) if number & 1 else (current, password_part)
        middle = (salt_part if number % 3 else b"") + (password_part if number % 7 else b"")
        current = hashlib.sha512(first + middle + last).digest()
    return current


def _stretch(block: bytes, length: int) -> bytes:
    return (block * (length // len(block) + 1))[:length]


def _encode(digest: bytes) -> str:
    """Base 64 with crypt's alphabet, over triples of bytes 21 apart, whose order turns from one to the next."""
    triples = [(0, 21, 42)]
    while len(triples) < 21:
        a, b, c = triples[-1]
        triples.append((b + 1, c + 1, a + 1))
    groups = [((digest[a] << 16) | (digest[b] << 8) | digest[c], 4) for a, b, c in triples]
    groups.append((digest[63], 2))
    return "".join(_ALPHABET[(value >> 6 * i) & 63] for value, n in groups for i in range(n))
