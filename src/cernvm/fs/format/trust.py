"""What must hold before anything of a repository is believed; pure rules over a `Verifier`.

The chain: a master key that the user has → signs the whitelist → lists the certificate → signs the manifest → names
the root catalog's digest → which names everything else. Revisions going back are the reader's business.
Source: docs/formats/repository.md, "Trust".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cernvm.core.errors import ExpiredError, SignatureError
from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.manifest import ROOT_PATH_MD5, Manifest, parse_manifest
from cernvm.fs.format.second import verify_second_signature
from cernvm.fs.format.whitelist import Whitelist, format_fingerprint, parse_whitelist

MAX_MASTER_KEYS = 64


@dataclass(frozen=True, slots=True)
class Certificate:
    """A signing certificate taken apart: DER for its fingerprint, its public key as PEM for its signatures."""

    der: bytes
    public_key: bytes


class Verifier(Protocol):
    """The cryptography that trust needs; pure, so safe from any thread.

    Errors: every verb raises `SignatureError` for keys and certificates that cannot be read.
    """

    def read_certificate(self, pem: bytes) -> Certificate:
        """The certificate in a PEM document; its dates are not looked at, as the format has it."""

    def is_signed_sha1(self, public_key: bytes, text: bytes, signature: bytes) -> bool:
        """Whether `signature` is RSA PKCS#1 v1.5 with SHA-1 over `text` by the key in PEM."""

    def is_signed_raw(self, public_key: bytes, text: bytes, signature: bytes) -> bool:
        """Whether `signature` is RSA PKCS#1 v1.5 of `text` itself, without a hash."""

    def is_signed_ed25519(self, public_key: bytes, text: bytes, signature: bytes) -> bool:
        """Whether `signature` is Ed25519 over `text` by the key in PEM."""


def verify_repository(
    *,
    name: str,
    manifest_bytes: bytes,
    certificate: bytes,
    whitelist_bytes: bytes,
    master_keys: Sequence[bytes],
    now: datetime,
    verifier: Verifier,
) -> Manifest:
    """The manifest, once the whole chain from a master key down to it holds.

    Shape: `certificate` is the PEM document behind the manifest's X digest; `master_keys` are public keys as PEM.
    Errors: `SignatureError`, `ExpiredError`, `DigestMismatchError`, `LetterFormatError`.
    """
    manifest = verify_manifest(
        manifest_bytes, name=name, certificate=certificate, verifier=verifier
    )
    whitelist = verify_whitelist(
        whitelist_bytes, name=name, master_keys=master_keys, now=now, verifier=verifier
    )
    verify_certificate(certificate, whitelist, verifier=verifier)
    return manifest


def open_manifest(data: bytes, *, name: str) -> Manifest:
    """A manifest that is well formed and this repository's, *before* its signature was checked.

    Use it only to learn which certificate to fetch for `verify_manifest`.
    """
    manifest = parse_manifest(parse_letter(data, where="manifest").text)
    if manifest.name != name:
        raise SignatureError(
            f"the manifest is of repository {manifest.name[:255]!r}, not {name!r}",
            advice="check the server's URL; a server that mixes repositories is not to be trusted",
        )
    if manifest.root_path_md5 != ROOT_PATH_MD5:
        raise SignatureError(f"the manifest of {name} is not of the repository's root")
    return manifest


def verify_manifest(
    data: bytes,
    *,
    name: str,
    certificate: bytes,
    verifier: Verifier,
    second_keys: Sequence[bytes] = (),
) -> Manifest:
    """The manifest, if it is this repository's and `certificate` (PEM) signed it.

    With `second_keys` (Ed25519 public keys as PEM) one of them must have made a second signature.
    """
    manifest = open_manifest(data, name=name)
    letter = parse_letter(data, where="manifest")
    key = verifier.read_certificate(certificate).public_key
    if not verifier.is_signed_sha1(key, letter.signed_text, letter.signature):
        raise SignatureError(f"the manifest of {name} is not signed by its certificate")
    if second_keys:
        verify_second_signature(letter.text, manifest, second_keys, verifier.is_signed_ed25519)
    return manifest


def verify_whitelist(
    data: bytes,
    *,
    name: str,
    master_keys: Sequence[bytes],
    now: datetime,
    verifier: Verifier,
) -> Whitelist:
    """The whitelist, if it is in date, this repository's, and any of the master keys signed it."""
    letter = parse_letter(data, where="whitelist")
    whitelist = parse_whitelist(letter.text)
    if whitelist.is_expired(now):
        raise ExpiredError(
            f"the whitelist of {name} expired at {whitelist.expires_at:%Y-%m-%d %H:%M} UTC",
            advice="its publisher must sign a new one: cvm repo publish does it",
        )
    if whitelist.name != name:
        raise SignatureError(
            f"the whitelist is of repository {whitelist.name[:255]!r}, not {name!r}"
        )
    if whitelist.options:
        raise SignatureError(
            f"the whitelist of {name} demands {whitelist.options[0][:40]!r}, which is not supported"
        )
    if not any(
        verifier.is_signed_raw(key, letter.signed_text, letter.signature)
        for key in master_keys[:MAX_MASTER_KEYS]
    ):
        raise SignatureError(
            f"the whitelist of {name} is not signed by any of the {len(master_keys)} known master keys",
            advice="get the repository's public key from its publisher by a trusted way",
        )
    return whitelist


def verify_certificate(certificate: bytes, whitelist: Whitelist, *, verifier: Verifier) -> None:
    """Pass if the whitelist lists the certificate (PEM); else `SignatureError` naming its fingerprint."""
    der = verifier.read_certificate(certificate).der
    if not any(listed.algorithm.digest(der) == listed for listed in whitelist.fingerprints):
        algorithm = whitelist.fingerprints[0].algorithm if whitelist.fingerprints else None
        shown = format_fingerprint(algorithm.digest(der)) if algorithm else "any"
        raise SignatureError(
            f"the whitelist of {whitelist.name} does not list the certificate {shown}"
        )
