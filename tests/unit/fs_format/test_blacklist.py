import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.core.errors import LetterFormatError, RollbackError, SignatureError
from cernvm.fs.format.blacklist import Blacklist, parse_blacklist
from cernvm.fs.format.whitelist import format_fingerprint


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_listed_certificate_is_refused_and_another_is_not(algorithm):
    text = f"# stolen\n{format_fingerprint(algorithm.digest(b'stolen'))}  # in 2025\n"

    blacklist = parse_blacklist(text)

    blacklist.check_certificate(b"other", name="a.b")
    with pytest.raises(SignatureError, match="blacklisted"):
        blacklist.check_certificate(b"stolen", name="a.b")


def test_revisions_below_the_named_one_are_refused_for_that_repository_only():
    blacklist = parse_blacklist("<a.b 5\n<a.b 7\n< c.d 2\n<a.b 6")

    blacklist.check_revision(7, name="a.b")
    blacklist.check_revision(1, name="e.f")
    with pytest.raises(RollbackError, match="7 is the lowest"):
        blacklist.check_revision(6, name="a.b")
    with pytest.raises(RollbackError):
        blacklist.check_revision(1, name="c.d")


@pytest.mark.parametrize("line", ["<a.b", "<a.b x", "AB:CD", "a.b 5", "<a.b -1", "<a/b 3"])
def test_a_line_that_forbids_nothing_is_an_error_that_names_it(line):
    with pytest.raises(LetterFormatError, match="line 2"):
        parse_blacklist(f"# fine\n{line}\n")


@given(st.text())
def test_any_text_is_a_blacklist_or_a_format_error(text):
    try:
        assert isinstance(parse_blacklist(text), Blacklist)
    except LetterFormatError:
        pass
