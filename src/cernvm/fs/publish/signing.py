"""The publisher's side of trust: manifests and whitelists with signatures under them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from cernvm.core.digest import Algorithm, Digest
from cernvm.fs.format.letter import Letter, format_letter, letter_digest
from cernvm.fs.format.manifest import Manifest, format_manifest
from cernvm.fs.format.second import add_second_signature
from cernvm.fs.format.signature import sign_ed25519, sign_sha1
from cernvm.fs.format.whitelist import Whitelist, format_whitelist
from cernvm.fs.publish.master import MasterKey

WHITELIST_DAYS = 30
RENEW_DAYS = 7  # a publisher signs a new whitelist when the old one runs out within so many days


def sign_manifest(
    manifest: Manifest, *, signing_key: bytes, second_key: bytes | None = None
) -> bytes:
    """`.cvmfspublished` as it is served, with a second signature where there is a key for it."""
    bare = replace(manifest, second_signature="")
    if second_key is None:
        text = format_manifest(replace(bare, root_catalog_sha256=""))
    else:
        text = add_second_signature(bare, partial(sign_ed25519, second_key))
    digest = letter_digest(text, manifest.root_catalog.algorithm)
    return format_letter(Letter(text, digest, sign_sha1(signing_key, str(digest).encode())))


def sign_whitelist(
    *,
    name: str,
    fingerprints: tuple[Digest, ...],
    master: MasterKey,
    algorithm: Algorithm,
    now: datetime,
    days: int = WHITELIST_DAYS,
) -> bytes:
    """`.cvmfswhitelist` as it is served, listing certificates by their fingerprints for `days` days."""
    whitelist = Whitelist(
        created_at=now,
        expires_at=now + timedelta(days=days),
        name=name,
        fingerprints=fingerprints,
    )
    text = format_whitelist(whitelist)
    digest = letter_digest(text, algorithm)
    return format_letter(Letter(text, digest, master.sign(str(digest).encode())))


def needs_renewal(whitelist: Whitelist, *, now: datetime) -> bool:
    """Whether the whitelist runs out so soon that the publisher should sign a new one."""
    return whitelist.is_expired(now + timedelta(days=RENEW_DAYS))
