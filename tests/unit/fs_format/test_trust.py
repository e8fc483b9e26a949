from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import (
    DigestMismatchError,
    ExpiredError,
    FormatError,
    InvalidInputError,
    SignatureError,
    TrustError,
)
from cernvm.fs.format.letter import Letter, format_letter, letter_digest, parse_letter
from cernvm.fs.format.manifest import Manifest
from cernvm.fs.format.signature import (
    CryptographyVerifier,
    create_certificate,
    create_private_key,
    public_key_of,
    sign_raw,
)
from cernvm.fs.format.trust import verify_repository
from cernvm.fs.publish.signing import sign_manifest, sign_whitelist
from cernvm.fs.publish.whitelisting import fingerprint_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NAME = "t.cernvm.test"
MANIFEST = Manifest(Digest(Algorithm.SHA1, bytes(20)), 1, 240, 7, NAME)


@dataclass
class _Master:
    pem: bytes
    is_at_hand: bool = True

    def sign(self, text):
        return sign_raw(self.pem, text)


@pytest.fixture(scope="module")
def keys():
    return create_private_key(), create_private_key()


@pytest.fixture(scope="module")
def parts(keys):
    master, signing = keys
    certificate = create_certificate(signing, name=NAME, now=NOW)
    return {
        "name": NAME,
        "manifest_bytes": sign_manifest(MANIFEST, signing_key=signing),
        "certificate": certificate,
        "whitelist_bytes": sign_whitelist(
            name=NAME,
            fingerprints=(fingerprint_of(certificate, Algorithm.SHAKE128),),
            master=_Master(master),
            algorithm=Algorithm.SHAKE128,
            now=NOW,
        ),
        "master_keys": [public_key_of(master)],
        "now": NOW,
        "verifier": CryptographyVerifier(),
    }


def test_what_we_sign_is_trusted(parts):
    assert verify_repository(**parts) == MANIFEST


def test_any_of_several_master_keys_suffices(parts, keys):
    other = public_key_of(keys[1])

    assert verify_repository(**{**parts, "master_keys": [other, *parts["master_keys"]]})


def test_no_master_key_trusts_nothing(parts, keys):
    for wrong in ([], [public_key_of(keys[1])]):
        with pytest.raises(SignatureError, match="known master keys"):
            verify_repository(**{**parts, "master_keys": wrong})


def test_expired_whitelist_is_refused(parts):
    with pytest.raises(ExpiredError):
        verify_repository(**{**parts, "now": NOW + timedelta(days=31)})


def test_certificate_that_is_not_listed_is_refused(parts, keys):
    other = create_certificate(keys[1], name=NAME, now=NOW)
    with pytest.raises(SignatureError, match="does not list"):
        verify_repository(**{**parts, "certificate": other})


def test_manifest_of_another_signer_is_refused(parts):
    forged = sign_manifest(MANIFEST, signing_key=create_private_key())
    with pytest.raises(SignatureError, match="not signed by its certificate"):
        verify_repository(**{**parts, "manifest_bytes": forged})


def test_whitelist_of_another_repository_is_refused(parts, keys):
    other = sign_whitelist(
        name="other.cernvm.test",
        fingerprints=(fingerprint_of(parts["certificate"], Algorithm.SHA1),),
        master=_Master(keys[0]),
        algorithm=Algorithm.SHA1,
        now=NOW,
    )
    with pytest.raises(SignatureError, match="of repository 'other"):
        verify_repository(**{**parts, "whitelist_bytes": other})


def test_whitelist_with_unknown_demands_is_refused(parts, keys):
    letter = parse_letter(parts["whitelist_bytes"], where="whitelist")
    lines = letter.text.split("\n")
    text = "\n".join([*lines[:3], "Wcachain", *lines[3:]])
    digest = letter_digest(text, Algorithm.SHA1)
    signed = format_letter(Letter(text, digest, sign_raw(keys[0], str(digest).encode())))
    with pytest.raises(SignatureError, match="not supported"):
        verify_repository(**{**parts, "whitelist_bytes": signed})


@pytest.mark.parametrize("part", ["manifest_bytes", "whitelist_bytes"])
def test_no_flipped_bit_is_trusted(parts, part, seeded):
    data = parts[part]
    for at in sorted(seeded.sample(range(len(data) * 8), 300)):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises((TrustError, FormatError)):
            verify_repository(**{**parts, part: bytes(damaged)})


def test_a_cut_off_letter_is_not_trusted(parts):
    data = parts["manifest_bytes"]
    for length in range(0, len(data), 7):
        with pytest.raises((SignatureError, DigestMismatchError, FormatError)):
            verify_repository(**{**parts, "manifest_bytes": data[:length]})


@pytest.mark.parametrize("pem", [b"", b"x" * 100_000, b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_key_or_certificate_is_our_error(parts, pem):
    with pytest.raises(SignatureError):
        CryptographyVerifier().read_certificate(pem)
    with pytest.raises(SignatureError):
        CryptographyVerifier().is_signed_raw(pem, b"", b"")


def test_too_much_text_is_not_signed_raw(keys):
    with pytest.raises(InvalidInputError):
        sign_raw(keys[0], bytes(250))


def test_a_raw_signature_of_other_padding_is_refused(keys):
    master = keys[0]
    good = sign_raw(master, b"text")
    verifier, public = CryptographyVerifier(), public_key_of(master)

    assert verifier.is_signed_raw(public, b"text", good)
    assert not verifier.is_signed_raw(public, b"texT", good)
    assert not verifier.is_signed_raw(public, b"text", good[:-1])
    assert not verifier.is_signed_raw(public, b"text", b"")
