"""Signatures by the `cryptography` package: the `Verifier` of trust.py, and the signing side for publishers.

Keys and certificates go in and out as PEM bytes; where they lie is the caller's business.
Source: docs/formats/repository.md, "Signatures"; RFC 8017 section 8.2.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cernvm.core.errors import InvalidInputError, SignatureError
from cernvm.fs.format.trust import Certificate

KEY_BITS = 2048
CERTIFICATE_DAYS = 365
MAX_PEM_BYTES = 1 << 16
_MIN_KEY_BITS = 1024
_MAX_KEY_BITS = 16384
_COMMON_NAME = "{name} CernVM-FS Release Managers"


class CryptographyVerifier:
    """The `Verifier` over `cryptography`."""

    def read_certificate(self, pem: bytes) -> Certificate:
        try:
            certificate = x509.load_pem_x509_certificate(_bounded(pem))
            key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise SignatureError(f"the signing certificate cannot be read: {exc}") from exc
        return Certificate(
            der=certificate.public_bytes(Encoding.DER),
            public_key=key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        )

    def is_signed_sha1(self, public_key: bytes, text: bytes, signature: bytes) -> bool:
        key = _load_public(public_key)
        try:
            key.verify(signature, text, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
        except InvalidSignature:
            return False
        return True

    def is_signed_raw(self, public_key: bytes, text: bytes, signature: bytes) -> bool:
        key = _load_public(public_key)
        try:
            recovered = key.recover_data_from_signature(signature, padding.PKCS1v15(), None)
        except (InvalidSignature, ValueError):
            return False
        return hmac.compare_digest(recovered, text)

    def is_signed_ed25519(self, public_key: bytes, text: bytes, signature: bytes) -> bool:
        try:
            _load_second(public_key).verify(signature, text)
        except InvalidSignature:
            return False
        return True


def create_private_key() -> bytes:
    """A new RSA key as unencrypted PKCS#8 PEM; a secret."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    return key.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key_of(private_key: bytes) -> bytes:
    """The public half of a private key, as PEM."""
    public = _load_private(private_key).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def create_certificate(private_key: bytes, *, name: str, now: datetime) -> bytes:
    """A self-signed certificate (PEM) for a repository's release managers; clients look at its fingerprint only."""
    key = _load_private(private_key)
    subject = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, _COMMON_NAME.format(name=name[:30]))]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def sign_sha1(private_key: bytes, text: bytes) -> bytes:
    """The manifest's kind of signature: RSA PKCS#1 v1.5 with SHA-1 over `text`.

    Errors: `InvalidInputError` for a key that cannot be read, or whose numbers do not belong together.
    """
    key = _load_private(private_key, is_tested=False)
    try:
        signature = key.sign(text, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
        # in place of a test of the key's numbers, which takes a thousand times as long
        key.public_key().verify(signature, text, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    except (InvalidSignature, ValueError) as exc:
        raise InvalidInputError("a private key's numbers do not belong together") from exc
    return signature


def sign_raw(private_key: bytes, text: bytes) -> bytes:
    """The whitelist's kind of signature: RSA PKCS#1 v1.5 padding around `text` itself, without a hash.

    Libraries offer no such signature, so it is the textbook one: block type 1, then the private exponent. It signs
    only the text of a digest, at most 50 bytes, by a key that never leaves the publisher's machine.
    """
    key = _load_private(private_key)
    numbers = key.private_numbers()
    modulus = numbers.public_numbers.n
    length = (key.key_size + 7) // 8
    if len(text) > length - 11:
        raise InvalidInputError(f"{len(text)} bytes are too many to be signed by this key")
    block = b"\x00\x01" + b"\xff" * (length - 3 - len(text)) + b"\x00" + text
    return pow(int.from_bytes(block, "big"), numbers.d, modulus).to_bytes(length, "big")


def create_second_key() -> bytes:
    """A new Ed25519 key for second signatures, as unencrypted PKCS#8 PEM; a secret."""
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def second_public_key_of(private_key: bytes) -> bytes:
    """The public half of a key for second signatures, as PEM."""
    public = _load_second_private(private_key).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign_ed25519(private_key: bytes, text: bytes) -> bytes:
    """The second signature's kind: Ed25519 over `text`, 64 bytes. Source: RFC 8032."""
    return _load_second_private(private_key).sign(text)


def check_second_key(pem: bytes) -> None:
    """Make sure that second signatures can be verified with this public key. Errors: `SignatureError`."""
    _load_second(pem)


def check_public_key(pem: bytes) -> None:
    """Make sure that signatures can be verified with this key. Errors: `SignatureError`."""
    _load_public(pem)


def _load_public(pem: bytes) -> rsa.RSAPublicKey:
    try:
        key = serialization.load_pem_public_key(_bounded(pem))
    except (ValueError, UnsupportedAlgorithm) as exc:
        reason = str(exc).partition(". See")[0]
        raise SignatureError(f"a public key cannot be read: {reason}") from exc
    if not isinstance(key, rsa.RSAPublicKey):
        raise SignatureError("a public key is not an RSA key, as the format needs")
    if not _MIN_KEY_BITS <= key.key_size <= _MAX_KEY_BITS:
        raise SignatureError(f"a public key of {key.key_size} bits is not acceptable")
    return key


def _load_second(pem: bytes) -> ed25519.Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(_bounded(pem))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SignatureError("a key for second signatures cannot be read") from exc
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise SignatureError("a key for second signatures is no Ed25519 key")
    return key


def _load_second_private(pem: bytes) -> ed25519.Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(_bounded(pem), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise InvalidInputError("a private key for second signatures cannot be read") from exc
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InvalidInputError("a private key for second signatures is no Ed25519 key")
    return key


def _load_private(pem: bytes, *, is_tested: bool = True) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(
            _bounded(pem), password=None, unsafe_skip_rsa_key_validation=not is_tested
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        # the library's message never holds key material, but say nothing of it all the same
        raise InvalidInputError("a private key cannot be read") from exc
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InvalidInputError("a private key is not an RSA key, as the format needs")
    return key


def _bounded(pem: bytes) -> bytes:
    if len(pem) > MAX_PEM_BYTES:
        raise SignatureError(f"a key or certificate is larger than {MAX_PEM_BYTES} bytes")
    return pem
