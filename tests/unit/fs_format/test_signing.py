"""Signing with a publisher's own keys."""

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.signature import create_private_key, sign_sha1

TEXT = b"c58a5a8f5b4b1a8d2f3e4f5a6b7c8d9e0f1a2b3c"


def key_with(pem, **changed):
    """The key with other numbers in it, as a damaged file has them."""
    numbers = serialization.load_pem_private_key(pem, password=None).private_numbers()
    names = ("p", "q", "d", "dmp1", "dmq1", "iqmp", "public_numbers")
    kept = {name: getattr(numbers, name) for name in names}
    made = rsa.RSAPrivateNumbers(**(kept | changed))
    return made.private_key(unsafe_skip_rsa_key_validation=True).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_of(pem):
    return serialization.load_pem_private_key(pem, password=None).public_key()


def test_a_manifest_is_signed_as_its_public_key_verifies():
    pem = create_private_key()

    public_of(pem).verify(sign_sha1(pem, TEXT), TEXT, padding.PKCS1v15(), hashes.SHA1())


def test_a_key_whose_numbers_do_not_belong_together_signs_nothing():
    pem = create_private_key()
    modulus = public_of(pem).public_numbers().n

    with pytest.raises(InvalidInputError, match="do not belong together"):
        sign_sha1(key_with(pem, public_numbers=rsa.RSAPublicNumbers(3, modulus)), TEXT)


@pytest.mark.parametrize("number", ["d", "dmp1", "dmq1", "iqmp"])
def test_no_wrong_signature_leaves_a_damaged_key(number):
    pem = create_private_key()
    old = getattr(serialization.load_pem_private_key(pem, password=None).private_numbers(), number)
    try:
        signature = sign_sha1(key_with(pem, **{number: old + 2}), TEXT)
    except InvalidInputError:
        return
    public_of(pem).verify(signature, TEXT, padding.PKCS1v15(), hashes.SHA1())
