"""Who asks: a key's secret under a request, as the protocol has it.

A signature is HMAC-SHA-1, in hex, in base64, after the key's id. What is signed depends on the request: its body for a
lease, its token for what is done under one. Publishers of this house add a proof: HMAC-SHA-256 over all of the request
and its time.
Source: docs/formats/gateway.md, "Signatures".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field

from cernvm.core.errors import FormatError

KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECRET = re.compile(r"[!-~]{8,256}")
_WORDS = 3
PROOF_S = 300  # how far the clocks of publisher and gateway may differ


@dataclass(frozen=True, slots=True)
class Secret:
    """A key's id and what only its holders and the gateway know; the latter is never shown."""

    id: str
    secret: str = field(repr=False)

    def authorization(self, message: bytes) -> str:
        """The header `Authorization` for a request in which `message` is what is signed."""
        return f"{self.id} {base64.b64encode(self._mac(message)).decode()}"

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether this key made the signature; takes as long for a wrong one."""
        return hmac.compare_digest(signature, self._mac(message))

    def proof(self, method: str, address: str, message: bytes, at_s: int) -> str:
        """The header `Cvm-Proof` for a request at a time (seconds since 1970)."""
        said = f"{method}\n{address}\n{at_s}\n{hashlib.sha256(message).hexdigest()}"
        mac = hmac.new(
            self.secret.encode(), said.encode("utf-8", "surrogateescape"), hashlib.sha256
        )
        return f"{at_s} {mac.hexdigest()}"

    def proves(
        self, proof: str, method: str, address: str, message: bytes, *, now_s: float
    ) -> bool:
        """Whether this key made the proof, for this request, and lately."""
        time, _, _ = proof.partition(" ")
        if not (time.isascii() and time.isdecimal() and len(time) < 13):
            return False
        made = self.proof(method, address, message, int(time))
        return hmac.compare_digest(proof.encode(), made.encode()) and (
            abs(int(time) - now_s) <= PROOF_S
        )

    def _mac(self, message: bytes) -> bytes:
        return hmac.new(self.secret.encode(), message, hashlib.sha1).hexdigest().encode()


def parse_authorization(header: str) -> tuple[str, bytes]:
    """The key's id and the signature in a header `Authorization`; `FormatError` for anything else."""
    key_id, _, encoded = header.partition(" ")
    try:
        signature = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if not KEY_ID.fullmatch(key_id) or not signature:
        raise FormatError("is not KEY SIGNATURE", where="Authorization")
    return key_id, signature


def parse_key_file(text: str) -> Secret:
    """The key in a file: one line, `plain_text ID SECRET`; `FormatError` for anything else."""
    line = text.split("\n", 1)[0]
    words = line.split()
    if len(words) != _WORDS or words[0] != "plain_text":
        raise FormatError("is not plain_text ID SECRET", where="key file", line=1)
    if not KEY_ID.fullmatch(words[1]) or not _SECRET.fullmatch(words[2]):
        raise FormatError(
            "has an id or a secret of odd characters or length", where="key file", line=1
        )
    return Secret(words[1], words[2])


def format_key_file(secret: Secret) -> bytes:
    """The file that a publisher is given."""
    return f"plain_text {secret.id} {secret.secret}\n".encode()
