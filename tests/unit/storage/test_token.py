from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import DeniedError, ExpiredError, InvalidInputError
from cernvm.storage.token import Capability, mint_token, read_token

KEY = b"k" * 32
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PUT = Capability("jobs/7/1", ("PUT",), int(NOW.timestamp()) + 60, 100, "7")


def test_a_token_carries_its_capability():
    assert read_token(KEY, mint_token(KEY, PUT), now=NOW) == PUT


def test_a_token_ends():
    token = mint_token(KEY, PUT)

    assert read_token(KEY, token, now=NOW + timedelta(seconds=60)) == PUT
    with pytest.raises(ExpiredError, match="00:01:00"):
        read_token(KEY, token, now=NOW + timedelta(seconds=61))


@pytest.mark.parametrize("path", ["jobs/7/1", "jobs/7/1/a.root", "jobs/7/1/a/b"])
def test_a_token_reaches_what_is_below_its_folder(path):
    PUT.check("PUT", path, size_bytes=100)


@pytest.mark.parametrize("path", ["", "jobs/7", "jobs/7/10/a", "jobs/7/2/a", "jobs/8/1/a", "x"])
def test_a_token_reaches_nothing_else(path):
    with pytest.raises(DeniedError):
        PUT.check("PUT", path)


def test_a_token_allows_its_methods_and_sizes_only():
    with pytest.raises(DeniedError, match="GET"):
        PUT.check("GET", "jobs/7/1/a")
    with pytest.raises(DeniedError, match="101"):
        PUT.check("PUT", "jobs/7/1/a", size_bytes=101)


@pytest.mark.parametrize("change", [{"prefix": "../x"}, {"prefix": "a//b"}, {"methods": ("POKE",)}])
def test_a_capability_that_makes_no_sense_cannot_exist(change):
    values = {"prefix": "a", "methods": ("GET",), "not_after": 0, "max_bytes": 0, **change}
    with pytest.raises(InvalidInputError):
        Capability(**values)


@given(
    st.lists(st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,9}\Z"), max_size=4),
    st.sets(st.sampled_from(["GET", "HEAD", "PUT", "DELETE"])),
    st.integers(int(NOW.timestamp()), 2**40),
    st.text(max_size=20),
)
def test_every_capability_survives_its_token(parts, methods, end, job):
    capability = Capability("/".join(parts), tuple(sorted(methods)), end, 1, job)

    assert read_token(KEY, mint_token(KEY, capability), now=NOW) == capability
