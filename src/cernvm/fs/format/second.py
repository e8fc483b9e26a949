"""The second signature of a manifest: Ed25519 over its text, in a line of the manifest that older clients pass by.

It is one line, so it travels with the manifest through every replica and cache, and no client can get one without the
other. What it covers is the text of all lines but itself, after a prefix that no other signature begins with.
Source: docs/formats/second-signature.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence

from cernvm.core.errors import SignatureError
from cernvm.fs.format.manifest import Manifest, format_manifest

PREFIX = b"CernVM-FS second signature 1\n"
SIGNATURE_BYTES = 64
MAX_SECOND_KEYS = 16


def covered_text(text: str) -> bytes:
    """What the second signature of a manifest with this text covers."""
    lines = text.split(
        "\n"
    )  # as the manifest is read: a line that only one of the two sees could hide another
    return PREFIX + "\n".join(line for line in lines if not line.startswith("E")).encode("ascii")


def add_second_signature(manifest: Manifest, sign: Callable[[bytes], bytes]) -> str:
    """The text of a manifest with a second signature under it, made by `sign`."""
    text = format_manifest(manifest)
    return f"{text}E{base64.b64encode(sign(covered_text(text))).decode()}\n"


def verify_second_signature(
    text: str,
    manifest: Manifest,
    keys: Sequence[bytes],
    is_signed: Callable[[bytes, bytes, bytes], bool],
) -> None:
    """Pass if any of the public keys (PEM) made the second signature of a manifest with this text.

    Errors: `SignatureError`; a manifest without one is refused like one with a wrong one.
    """
    advice = "it was taken off, or its publisher has stopped to make it: ask the publisher"
    if not manifest.second_signature:
        raise SignatureError(
            f"the manifest of {manifest.name} has no second signature", advice=advice
        )
    try:
        signature = base64.b64decode(manifest.second_signature, validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    covered = covered_text(text)
    if len(signature) != SIGNATURE_BYTES or not any(
        is_signed(key, covered, signature) for key in keys[:MAX_SECOND_KEYS]
    ):
        raise SignatureError(
            f"the second signature of {manifest.name} is by none of the {len(keys)} known keys"
        )
    if not manifest.root_catalog_sha256:
        raise SignatureError(f"the manifest of {manifest.name} has no SHA-256 of its root catalog")


def check_root_catalog(manifest: Manifest, sha256: str) -> None:
    """Pass if the uncompressed root catalog has the SHA-256 that the manifest names. Errors: `SignatureError`."""
    if sha256 != manifest.root_catalog_sha256:
        raise SignatureError(f"the root catalog of {manifest.name} is not the one that was signed")


def sha256_of(root_catalog: bytes) -> str:
    """How a manifest names a root catalog, uncompressed, beside its digest."""
    return hashlib.sha256(root_catalog).hexdigest()
