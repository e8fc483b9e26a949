import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core import digest
from cernvm.core.digest import Algorithm
from cernvm.core.ripemd160 import Ripemd160

VECTORS = {
    b"": "9c1185a5c5e9fc54612808977ee8f548b2258d31",
    b"a": "0bdc9d2d256b3ee9daae347be6f4dc835a467ffe",
    b"abc": "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc",
    b"message digest": "5d0689ef49d2fae572b881b123a85ffa21595f36",
    b"abcdefghijklmnopqrstuvwxyz": "f71c27109c692c1b56bbdceb5b9d2865b3708dbc",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq":
        "12a053384a9c0c88e405a06c27dcf49ada62eb2b",
    b"1234567890" * 8: "9b752e45573d4b39f4dbd3323cab82bf63326bfb",
}  # fmt: skip


@pytest.mark.parametrize("message", VECTORS)
def test_the_vectors_of_its_authors_hold(message):
    hasher = Ripemd160()
    hasher.update(message)
    assert hasher.digest().hex() == VECTORS[message]


@given(st.lists(st.binary(max_size=150), max_size=6))
def test_however_it_is_cut_it_is_what_openssl_makes_of_it(parts):
    try:
        theirs = hashlib.new("ripemd160", b"".join(parts), usedforsecurity=False)
    except ValueError:
        pytest.skip("this machine's OpenSSL has none")
    ours = Ripemd160()
    for part in parts:
        ours.update(part)
        ours.digest()  # asking changes nothing
    assert ours.digest() == theirs.digest()


def test_digests_are_the_same_where_openssl_has_none(monkeypatch):
    expected = Algorithm.RMD160.digest(b"content")

    def without(name, **_):
        raise ValueError(f"unsupported hash type {name}")

    monkeypatch.setattr(digest.hashlib, "new", without)
    assert Algorithm.RMD160.digest(b"content") == expected
