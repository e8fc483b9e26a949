import os
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import InvalidInputError
from cernvm.fs.publish.dirtab import parse_dirtab

TREE = [
    b"/sw",
    b"/sw/x86",
    b"/sw/x86/gcc",
    b"/sw/x86/gcc/.svn",
    b"/sw/x86/root",
    b"/sw/arm",
    b"/sw/arm/gcc",
    b"/sw/.hidden",
    b"/data",
    b"/data/a*b",
    b"/data/a\nb",
]


def folders(path):
    """The names of the directories in one."""
    return [name for above, _, name in (one.rpartition(b"/") for one in TREE) if above == path]


def matched(text):
    dirtab = parse_dirtab(text)
    found = set(dirtab.matches_below(b"", folders))
    assert found == {path for path in TREE if dirtab.is_matching(path)}
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"# comment\n\n   \n", []),
        (b"/sw", [b"/sw"]),
        (b"  /sw/  # not a comment here\n", []),
        (b"/sw/*/\n", [b"/sw/x86", b"/sw/arm", b"/sw/.hidden"]),
        (b"/sw/*/*\n", [b"/sw/x86/gcc", b"/sw/x86/root", b"/sw/arm/gcc"]),
        (b"/sw/*/*\n!/sw/arm/*", [b"/sw/x86/gcc", b"/sw/x86/root"]),
        (b"/sw/*/*\n! *gcc", [b"/sw/x86/root"]),
        (b"/sw/*/*/*\n! */.svn", []),
        (b"/sw/???\r\n", [b"/sw/x86", b"/sw/arm"]),
        (b"/data/a\\*b", [b"/data/a*b"]),
        (b"/data/a*b", [b"/data/a*b", b"/data/a\nb"]),
        (b"/*", [b"/sw", b"/data"]),
    ],
)
def test_rules_choose_directories(text, expected):
    assert matched(text) == set(expected)


@pytest.mark.parametrize("text", [b"sw/*", b"/sw//x", b"/", b"/sw/\\n", b"/a\\", b"/sw\n!/sw"])
def test_rules_that_cannot_be_name_their_line(text):
    with pytest.raises(InvalidInputError, match="line"):
        parse_dirtab(b"# first\n" + text)


def test_only_directories_on_the_way_to_a_match_are_looked_into():
    seen = []

    def look(path):
        seen.append(path)
        return folders(path)

    assert set(parse_dirtab(b"/sw/x*/gcc").matches_below(b"", look)) == {b"/sw/x86/gcc"}
    assert seen == [b"", b"/sw", b"/sw/x86"]
    seen.clear()
    assert list(parse_dirtab(b"/sw/x*/gcc").matches_below(b"/sw/arm", look)) == []
    assert seen == []


NAMES = st.text(alphabet="ab*?", min_size=1, max_size=6).map(os.fsencode)


@given(NAMES, st.text(alphabet="ab*?", min_size=1, max_size=8).map(os.fsencode))
def test_a_rule_matches_as_its_plain_expression_does(pattern, name):
    plain = b"".join(
        {b"*": b"[^/]*", b"?": b"[^/]"}.get(one, re.escape(one))
        for one in (pattern[at : at + 1] for at in range(len(pattern)))
    )
    expected = re.fullmatch(plain, name) is not None
    assert parse_dirtab(b"/" + pattern).is_matching(b"/" + name) == expected


def test_no_rule_takes_long():
    dirtab = parse_dirtab(b"/*\n!" + b"*a" * 200 + b"*b")
    started = time.monotonic()
    assert dirtab.is_matching(b"/" + b"a" * 4000)
    assert time.monotonic() - started < 1


@given(st.binary(max_size=200))
def test_any_bytes_are_rules_or_our_error(data):
    try:
        parse_dirtab(data)
    except InvalidInputError:
        pass
