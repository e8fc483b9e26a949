import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import FormatError, ObjectFormatError
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack import Pack
from cernvm.fs.format.profile import (
    MAX_ACCESSES,
    Access,
    Profile,
    format_profile,
    parse_profile,
    quote_path,
    unquote_path,
)

SHA1 = Algorithm.SHA1.digest(b"")
GOLDEN = b"""\
CVMPROFILE1
label numpy
trigger 2
pack da39a3ee5e6b4b0d3255bfef95601890afd80709 1000 2
access da39a3ee5e6b4b0d3255bfef95601890afd80709C 0 0 57344 0 /sw
access da39a3ee5e6b4b0d3255bfef95601890afd80709 0 0 10 0 /sw/a%20b
access 7f9c2ba4e88f827d616045507605853ed73b8093-shake128P 1 8388608 4194304 - /sw/lib%FF.so
"""
PROFILE = Profile(
    "numpy",
    2,
    (Pack(SHA1, 1000, 2),),
    (
        Access(b"/sw", SHA1, ObjectKind.CATALOG, Compression.ZLIB, 57344, pack=0),
        Access(b"/sw/a b", SHA1, ObjectKind.PLAIN, Compression.ZLIB, 10, pack=0),
        Access(
            b"/sw/lib\xff.so",
            Algorithm.SHAKE128.digest(b""),
            ObjectKind.PARTIAL,
            Compression.NONE,
            4 << 20,
            8 << 20,
        ),
    ),
)
digests = st.builds(Digest, st.sampled_from(Algorithm), st.binary(min_size=20, max_size=20))
parts = st.binary(min_size=1, max_size=9).filter(
    lambda p: b"/" not in p and b"\0" not in p and p not in (b".", b"..")
)
paths = st.lists(parts, min_size=1, max_size=4).map(lambda names: b"".join(b"/" + n for n in names))
accesses = st.builds(
    Access,
    paths,
    digests,
    st.sampled_from([ObjectKind.PLAIN, ObjectKind.PARTIAL, ObjectKind.CATALOG]),
    st.sampled_from(Compression),
    st.integers(0, 1 << 48),
    st.integers(0, 1 << 48),
    st.none() | st.just(0),
)
profiles = st.builds(
    Profile,
    st.from_regex(r"[a-z0-9][A-Za-z0-9._+-]{0,63}", fullmatch=True),
    st.integers(1, 1024),
    st.just((Pack(SHA1, 1000, 2),)),
    st.lists(accesses, min_size=1, max_size=9).map(tuple),
)


def test_the_text_is_that_of_the_specification():
    assert format_profile(PROFILE) == GOLDEN
    assert parse_profile(GOLDEN, label="numpy") == PROFILE


@given(profiles)
def test_profiles_survive_being_written(profile):
    assert parse_profile(format_profile(profile), label=profile.label) == profile


@given(paths)
def test_paths_survive_being_quoted(path):
    assert unquote_path(quote_path(path)) == path


@given(st.data())
def test_any_change_of_a_byte_is_refused_or_another_profile(data):
    place = data.draw(st.integers(0, len(GOLDEN) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != GOLDEN[place]))
    changed = GOLDEN[:place] + bytes([byte]) + GOLDEN[place + 1 :]
    try:
        parsed = parse_profile(changed, label="numpy")
    except FormatError:
        return
    assert format_profile(parsed) == changed


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_profile_or_our_error(data):
    for text in (data, GOLDEN + data):
        try:
            parse_profile(text, label="numpy")
        except FormatError:
            pass


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"label numpy", b"label other"),
        (b"trigger 2", b"trigger 0"),
        (b"trigger 2", b"trigger 02"),
        (b"trigger 2", b"trigger 99999"),
        (b" 0 /sw\n", b" 1 /sw\n"),
        (b"/a%20b", b"/a%2fb"),
        (b"/a%20b", b"/../x"),
        (b"/a%20b", b"//x"),
        (b"/a%20b", b"/a%00b"),
        (b"0709C 0", b"0709X 0"),
        (b"0709C 0", b"0709C 2"),
        (b" 1000 2\n", b" 99999999999 2\n"),
        (b" 1000 2\n", b" 1000 0\n"),
        (b".so\n", b".so"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(old, new):
    assert old in GOLDEN
    with pytest.raises(ObjectFormatError):
        parse_profile(GOLDEN.replace(old, new), label="numpy")


def test_a_profile_without_end_is_refused_before_it_is_all_taken_apart():
    head, line = GOLDEN.split(b"access", 1)[0], b"access" + GOLDEN.rsplit(b"access", 1)[1]
    with pytest.raises(ObjectFormatError):
        parse_profile(head + line * (MAX_ACCESSES + 1), label="numpy")
    with pytest.raises(ObjectFormatError):
        parse_profile(head + b"\n" * (4 * MAX_ACCESSES), label="numpy")


def test_the_beginning_is_the_first_files_and_no_catalog():
    assert PROFILE.first_paths == (b"/sw/a b", b"/sw/lib\xff.so")
