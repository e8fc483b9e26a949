"""The publisher's side of trust: manifests and whitelists with signatures under them."""

from __future__ import annotations

from datetime import datetime, timedelta

from cernvm.core.digest import Algorithm
from cernvm.fs.format.letter import Letter, format_letter, letter_digest
from cernvm.fs.format.manifest import Manifest, format_manifest
from cernvm.fs.format.signature import CryptographyVerifier, sign_raw, sign_sha1
from cernvm.fs.format.whitelist import Whitelist, format_whitelist

WHITELIST_DAYS = 30
RENEW_DAYS = 7  # a publisher signs a new whitelist when the old one runs out within so many days


def sign_manifest(manifest: Manifest, *, signing_key: bytes) -> bytes:
    """`.cvmfspublished` as it is served."""
    text = format_manifest(manifest)
    digest = letter_digest(text, manifest.root_catalog.algorithm)
    return format_letter(Letter(text, digest, sign_sha1(signing_key, str(digest).encode())))


def sign_whitelist(
    *,
    name: str,
    certificates: tuple[bytes, ...],
    master_key: bytes,
    algorithm: Algorithm,
    now: datetime,
    days: int = WHITELIST_DAYS,
) -> bytes:
    """`.cvmfswhitelist` as it is served, listing the given certificates (PEM) for `days` days."""
    verifier = CryptographyVerifier()
    whitelist = Whitelist(
        created_at=now,
        expires_at=now + timedelta(days=days),
        name=name,
        fingerprints=tuple(
            algorithm.digest(verifier.read_certificate(pem).der) for pem in certificates
        ),
    )
    text = format_whitelist(whitelist)
    digest = letter_digest(text, algorithm)
    return format_letter(Letter(text, digest, sign_raw(master_key, str(digest).encode())))


def needs_renewal(whitelist: Whitelist, *, now: datetime) -> bool:
    """Whether the whitelist runs out so soon that the publisher should sign a new one."""
    return whitelist.is_expired(now + timedelta(days=RENEW_DAYS))
