"""What stands between a reader who asks for a second signature and a manifest without the right one."""

import dataclasses

import pytest

from attack.fs_reader.forge import (
    HOST,
    SIGNING_KEY,
    Client,
    honest,
)
from cernvm.core.errors import SignatureError
from cernvm.fs.format.compress import inflate
from cernvm.fs.format.letter import Letter, format_letter, letter_digest, parse_letter
from cernvm.fs.format.manifest import parse_manifest
from cernvm.fs.format.objects import MANIFEST_PATH, ObjectKind, object_path
from cernvm.fs.format.second import sha256_of
from cernvm.fs.format.signature import create_second_key, second_public_key_of, sign_sha1
from cernvm.fs.publish.signing import sign_manifest

OURS, THEIRS = create_second_key(), create_second_key()


def signed(documents, *, key=OURS, **changes):
    """Documents whose manifest has a second signature, and is else signed as it was."""
    manifest = parse_manifest(parse_letter(documents[MANIFEST_PATH], where="manifest").text)
    stored = documents[object_path(manifest.root_catalog, ObjectKind.CATALOG)]
    named = dataclasses.replace(
        manifest, root_catalog_sha256=sha256_of(inflate(stored, limit_bytes=1 << 26)), **changes
    )
    letter = sign_manifest(named, signing_key=SIGNING_KEY, second_key=key)
    return {**documents, MANIFEST_PATH: letter}


def resigned(documents, change):
    """Documents whose manifest's text was changed by who has the signing key, and nothing more."""
    letter = parse_letter(documents[MANIFEST_PATH], where="manifest")
    text = change(letter.text)
    digest = letter_digest(text, letter.digest.algorithm)
    data = format_letter(Letter(text, digest, sign_sha1(SIGNING_KEY, str(digest).encode())))
    return {**documents, MANIFEST_PATH: data}


def client(*documents):
    made = Client(*documents)
    made.second_keys = [second_public_key_of(OURS)]
    return made


def test_a_manifest_with_the_right_one_is_read():
    reader = client(signed(honest().documents))

    assert reader.read(reader.mount(), b"/plain") == b"plain content"


def test_any_of_several_keys_will_do():
    reader = client(signed(honest().documents))
    reader.second_keys = [second_public_key_of(THEIRS), second_public_key_of(OURS)]

    reader.mount()


def test_who_asks_for_none_reads_a_manifest_with_one():
    reader = Client(signed(honest().documents, key=THEIRS))

    assert reader.read(reader.mount(), b"/plain") == b"plain content"


FORGERIES = {
    "stripped": lambda: resigned(signed(honest().documents), lambda text: text[: text.index("E")]),
    "never made": lambda: honest().documents,
    "by another key": lambda: signed(honest().documents, key=THEIRS),
    "of another revision": lambda: resigned(
        signed(honest().documents), lambda text: text.replace("\nS1\n", "\nS2\n")
    ),
    "of another root catalog": lambda: resigned(
        signed(honest().documents), lambda text: "C" + "0" * 40 + text[41:]
    ),
    "without the root catalog's SHA-256": lambda: resigned(
        signed(honest().documents), lambda text: _without(text, "K")
    ),
    "no base64": lambda: resigned(
        signed(honest().documents), lambda text: _without(text, "E") + "E!!!\n"
    ),
    "a line more": lambda: resigned(signed(honest().documents), lambda text: text + "Zmore\n"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_one_is_refused(forgery):
    with pytest.raises(SignatureError):
        client(FORGERIES[forgery]()).mount()


def test_an_honest_second_host_makes_up_for_a_stripped_one():
    good = signed(honest().documents)
    reader = client(FORGERIES["stripped"](), good)

    assert reader.read(reader.mount(), b"/plain") == b"plain content"
    assert any(route.host != HOST for route, _, _ in reader.exchange.requests)


def test_another_repositorys_signature_does_not_count():
    other = signed(honest().documents, name="other.cernvm.test")
    line = parse_letter(other[MANIFEST_PATH], where="manifest").text.splitlines()[-1]
    swapped = resigned(signed(honest().documents), lambda text: _without(text, "E") + line + "\n")

    with pytest.raises(SignatureError, match="second signature"):
        client(swapped).mount()


def test_a_catalog_of_the_same_weak_digest_is_refused():
    """As if somebody had found another catalog of that SHA-1."""
    documents = honest().documents
    wrong = resigned(documents, lambda text: text)
    manifest = parse_manifest(parse_letter(wrong[MANIFEST_PATH], where="manifest").text)
    named = dataclasses.replace(manifest, root_catalog_sha256="0" * 64)
    letter = sign_manifest(named, signing_key=SIGNING_KEY, second_key=OURS)

    with pytest.raises(SignatureError, match="root catalog"):
        client({**documents, MANIFEST_PATH: letter}).mount()


def _without(text, key):
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(key))
