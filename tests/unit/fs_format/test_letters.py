from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import DigestMismatchError, FormatError, LetterFormatError, TrustError
from cernvm.fs.format.letter import (
    MAX_LETTER_BYTES,
    Letter,
    format_letter,
    letter_digest,
    parse_letter,
)
from cernvm.fs.format.manifest import Manifest, format_manifest, parse_manifest
from cernvm.fs.format.whitelist import Whitelist, format_whitelist, parse_whitelist

digests = st.builds(Digest, st.sampled_from(Algorithm), st.binary(min_size=20, max_size=20))
times = st.integers(0, 253_402_214_400).map(lambda second: datetime.fromtimestamp(second, UTC))
manifests = st.builds(
    Manifest,
    root_catalog=digests,
    root_catalog_size_bytes=st.integers(0, 2**40),
    ttl_s=st.integers(0, 10**6),
    revision=st.integers(0, 2**64 - 1),
    name=st.from_regex(r"[a-z]{1,9}\.[a-z]{1,9}", fullmatch=True),
    certificate=st.none() | digests,
    history=st.none() | digests,
    published_at=st.none() | times,
    metainfo=st.none() | digests,
    reflog=st.none() | digests,
    garbage_collectable=st.booleans(),
    alternative_paths=st.booleans(),
)
whitelists = st.builds(
    Whitelist,
    created_at=times.filter(lambda t: t.year >= 1000),
    expires_at=times.filter(lambda t: t.year >= 1000),
    name=st.from_regex(r"[a-z]{1,9}\.[a-z]{1,9}", fullmatch=True),
    fingerprints=st.lists(digests, max_size=4).map(tuple),
)


@given(manifests)
def test_manifests_survive_being_written(manifest):
    assert parse_manifest(format_manifest(manifest)) == manifest


@given(whitelists)
def test_whitelists_survive_being_written(whitelist):
    assert parse_whitelist(format_whitelist(whitelist)) == whitelist


@given(st.text("abc-\n", max_size=60), st.binary(min_size=1), st.sampled_from(Algorithm))
def test_letters_survive_being_written(text, signature, algorithm):
    text = text.replace("\n--\n", "\n") + "\n" if not text.startswith("--\n") else "x\n"
    if "\n--\n" in "\n" + text:
        text = "x\n"
    letter = Letter(text, letter_digest(text, algorithm), signature)

    assert parse_letter(format_letter(letter), where="test") == letter


@given(st.binary(max_size=400))
def test_any_bytes_are_a_letter_or_our_error(data):
    try:
        parse_letter(data, where="test")
    except (FormatError, TrustError):
        pass


@given(st.text(max_size=200))
def test_any_text_is_a_manifest_or_our_error(text):
    for parse in (parse_manifest, parse_whitelist):
        try:
            parse(text)
        except LetterFormatError:
            pass


@given(manifests, st.data())
def test_a_damaged_manifest_text_is_a_value_or_our_error(manifest, data):
    text = bytearray(format_manifest(manifest).encode())
    at = data.draw(st.integers(0, len(text) * 8 - 1))
    text[at // 8] ^= 1 << at % 8
    try:
        parse_manifest(text.decode("latin-1"))
    except LetterFormatError:
        pass


def test_a_changed_text_does_not_have_its_digest():
    text = "C0\n"
    data = format_letter(Letter(text, letter_digest(text, Algorithm.SHA1), b"s"))

    with pytest.raises(DigestMismatchError):
        parse_letter(data.replace(b"C0", b"C1"), where="test")


def test_an_endless_letter_is_refused():
    with pytest.raises(LetterFormatError, match="larger"):
        parse_letter(b"x" * (MAX_LETTER_BYTES + 1), where="test")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'C' is missing"),
        ("Cxyz\n", "not a digest"),
        ("\n", "empty line"),
        ("S1\nS2\n", "twice"),
    ],
)
def test_wrong_manifests_name_the_reason(text, reason):
    with pytest.raises(LetterFormatError, match=reason):
        parse_manifest(text)


def test_unknown_keys_are_ignored():
    manifest = Manifest(Digest(Algorithm.SHA1, bytes(20)), 1, 240, 7, "a.b")

    assert parse_manifest(format_manifest(manifest) + "Qnew\n") == manifest


def test_a_whitelist_expires_at_its_full_hour():
    now = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
    whitelist = Whitelist(now, now + timedelta(minutes=59), "a.b", ())

    assert not whitelist.is_expired(now)
    assert whitelist.is_expired(now + timedelta(seconds=1))


def test_comments_after_a_fingerprint_are_ignored():
    lines = ["20260101000000", "E20270101000000", "Na.b", ":".join(["AB"] * 20) + " # mine", ""]

    assert parse_whitelist("\n".join(lines)).fingerprints[0].raw == b"\xab" * 20
