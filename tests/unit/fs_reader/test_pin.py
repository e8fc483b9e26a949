"""Which revision is meant when one is held."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import parse_digest
from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.fs.format.history import Tag
from cernvm.fs.reader.pin import Pin, choose

ROOT = parse_digest("d6747d09595c52d420faa9d5df4a599138b639a8")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def tag(name, revision, *, days=0, branch=""):
    return Tag(name, ROOT, revision, BEGIN + timedelta(days=days), "", 1, branch)


TAGS = [
    tag("one", 1, days=1),
    tag("two", 2, days=2),
    tag("aside", 2, days=5, branch="fork"),
    tag("three", 3, days=9),
]


@pytest.mark.parametrize(
    ("pin", "meant"),
    [
        (Pin(tag="two"), "two"),
        (Pin(tag="aside"), "aside"),
        (Pin(revision=2), "two"),
        (Pin(at="2026-01-03"), "two"),
        (Pin(at="2026-01-08T12:00:00Z"), "two"),  # not the branch's
        (Pin(at="2026-01-10T01:00:00+01:00"), "three"),
        (Pin(at="2026-01-10T00:59:59+01:00"), "two"),
    ],
)
def test_a_tag_a_number_or_a_date_means_one_tag(pin, meant):
    assert choose(TAGS, pin, name="a.b").name == meant


@pytest.mark.parametrize("pin", [Pin(tag="four"), Pin(revision=4), Pin(at="2026-01-01T23:59:59Z")])
def test_what_no_tag_fits_is_told(pin):
    with pytest.raises(NotFoundError) as raised:
        choose(TAGS, pin, name="a.b")
    assert "cvm fs tags a.b" in raised.value.advice


@pytest.mark.parametrize(
    "fields",
    [
        {"tag": "one", "revision": 1},
        {"at": "yesterday"},
        {"at": "2026-13-01"},
        {"revision": -1},
        {"root_catalog": "d6747d"},
        {"root_catalog": str(ROOT), "at": "2026-01-01"},
    ],
)
def test_a_pin_that_exists_is_valid(fields):
    with pytest.raises(InvalidInputError):
        Pin(**fields)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99), st.sampled_from(["", "fork"]))),
    st.integers(0, 99),
)
def test_a_date_gives_the_last_of_the_trunk_that_is_not_later(rows, day):
    tags = [tag(str(i), number, days=d, branch=b) for i, (number, d, b) in enumerate(rows)]
    moment = BEGIN + timedelta(days=day)
    fitting = [t.tagged_at for t in tags if not t.branch and t.tagged_at <= moment]

    try:
        chosen = choose(tags, Pin(at=moment.isoformat()), name="a.b")
    except NotFoundError:
        assert not fitting
    else:
        assert (chosen.tagged_at, chosen.branch) == (max(fitting), "")
