"""A site's secret: without it nobody is answered, and what is announced without it is not believed.

Source: docs/formats/peers.md, "The secret".
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from cernvm.core.errors import DeniedError, InvalidInputError, NotFoundError

VALID_S = 60
_MIN_BYTES, _MAX_BYTES = 16, 4096


def read_secret(path: Path) -> bytes:
    """The secret in a file that nobody else may read. Errors: `NotFoundError`, `DeniedError`, `InvalidInputError`."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise DeniedError(f"others may read the secret {path}", advice=f"chmod 600 {path}")
            secret = file.read(_MAX_BYTES + 1).strip()
    except FileNotFoundError:
        raise NotFoundError("secret of peers", str(path)) from None
    except OSError as error:
        raise DeniedError(f"the secret {path} cannot be read: {error.strerror}") from error
    if not _MIN_BYTES <= len(secret) <= _MAX_BYTES:
        raise InvalidInputError(
            f"the secret {path} has {len(secret)} bytes, which is no secret",
            advice=f"head -c 32 /dev/urandom | base64 > {path}",
        )
    return secret


def proof(secret: bytes, *words: str) -> str:
    """What only those who have the secret can say about some words, none of which holds a line's end."""
    return hmac.new(secret, "\n".join(words).encode("utf-8"), hashlib.sha256).hexdigest()


def proves(secret: bytes, said: str, *words: str) -> bool:
    """Whether `said` is the proof; takes as long when it is not."""
    return hmac.compare_digest(proof(secret, *words).encode("ascii"), said.encode("utf-8"))
