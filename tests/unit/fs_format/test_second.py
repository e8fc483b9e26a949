"""The second signature's bytes, which may never change."""

from datetime import UTC, datetime

import pytest

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import SignatureError
from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.manifest import Manifest, parse_manifest
from cernvm.fs.format.second import add_second_signature, covered_text, verify_second_signature
from cernvm.fs.format.signature import (
    CryptographyVerifier,
    check_second_key,
    create_private_key,
    public_key_of,
    second_public_key_of,
    sign_ed25519,
)
from cernvm.fs.publish.signing import sign_manifest

# of the seed of 32 zero bytes
KEY = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
-----END PRIVATE KEY-----
"""
MANIFEST = Manifest(
    Digest(Algorithm.SHA1, bytes(20)),
    4096,
    240,
    7,
    "t.cernvm.test",
    published_at=datetime(2026, 6, 1, tzinfo=UTC),
    root_catalog_sha256="00" * 32,
)
TEXT = (
    f"C{'0' * 40}\nB4096\nRd41d8cd98f00b204e9800998ecf8427e\nD240\nS7\nGno\nAno\nNt.cernvm.test\nT1780272000\n"
    f"K{'0' * 64}\n"
)
GOLDEN = (
    "EA6I/r/bCE38JNIJZcckPEt1OzMWnTSfeNRbyZNR9j1p335UPuOqloaQOlo41/sTKpFfalVNeVyGI36gi+lmbDw==\n"
)


def test_the_text_and_its_signature_are_these_bytes():
    text = add_second_signature(MANIFEST, lambda covered: sign_ed25519(KEY, covered))

    assert text.startswith(TEXT + "E")
    assert covered_text(text) == b"CernVM-FS second signature 1\n" + TEXT.encode()
    assert text.removeprefix(TEXT) == GOLDEN


def test_it_is_verified_by_the_public_key():
    text = TEXT + GOLDEN
    manifest = parse_manifest(text)

    verify_second_signature(
        text, manifest, [second_public_key_of(KEY)], CryptographyVerifier().is_signed_ed25519
    )


def test_without_a_key_the_manifest_is_as_it_always_was():
    signing = create_private_key()

    letter = parse_letter(sign_manifest(MANIFEST, signing_key=signing), where="manifest")

    assert letter.text == TEXT.replace(f"K{'0' * 64}\n", "")


def test_an_rsa_key_is_no_second_key():
    with pytest.raises(SignatureError, match="no Ed25519 key"):
        check_second_key(public_key_of(create_private_key()))


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\r", "\x1c"])
def test_no_line_is_hidden_behind_the_signature(end):
    assert covered_text(TEXT.replace("S7", f"EAAAA{end}S7")) != covered_text(TEXT)
