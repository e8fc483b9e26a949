"""What the headers of a request for a file mean."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.fs.publish.web.answers import Facts, answer

MODIFIED = datetime(2026, 11, 21, 12, 0, 0, 700_000, UTC)
FACTS = Facts(10, '"abc"', MODIFIED, "application/octet-stream", "max-age=61")
DATE = "Sat, 21 Nov 2026 12:00:00 GMT"


def told(**asked):
    found = answer(FACTS, {key.replace("_", "-"): value for key, value in asked.items()})
    return int(found.status), dict(found.headers), (found.first, found.length)


def test_all_of_it_is_told_with_its_tag_and_time():
    assert told() == (
        200,
        {
            "ETag": '"abc"', "Cache-Control": "max-age=61", "Last-Modified": DATE,
            "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "Content-Length": "10",
        },
        (0, 10),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"if_none_match": '"abc"'}, 304),
        ({"if_none_match": '"x", W/"abc"'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_modified_since": DATE}, 304),
        ({"if_modified_since": "Sat, 21 Nov 2026 11:59:59 GMT"}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_modified_since": DATE, "if_none_match": '"x"'}, 200),  # the tag is the better witness
    ],
)
def test_what_is_known_is_not_sent_again(asked, status):
    found, headers, sent = told(**asked)

    assert found == status
    assert headers["ETag"] == '"abc"'
    assert headers["Cache-Control"] == "max-age=61"
    assert sent == ((0, 0) if status == 304 else (0, 10))


@pytest.mark.parametrize(
    ("asked", "status", "sent", "said"),
    [
        ("bytes=0-3", 206, (0, 4), "bytes 0-3/10"),
        ("bytes=4-", 206, (4, 6), "bytes 4-9/10"),
        ("bytes=8-99", 206, (8, 2), "bytes 8-9/10"),
        ("bytes=-3", 206, (7, 3), "bytes 7-9/10"),
        ("bytes=-99", 206, (0, 10), "bytes 0-9/10"),
        ("bytes=10-", 416, (0, 0), "bytes */10"),
        ("bytes=-0", 416, (0, 0), "bytes */10"),
        ("bytes=5-4", 200, (0, 10), None),
        ("bytes=0-1,4-5", 200, (0, 10), None),
        ("lines=0-1", 200, (0, 10), None),
        ("bytes=-", 200, (0, 10), None),
        ("bytes=" + "9" * 400 + "-", 200, (0, 10), None),
    ],
)
def test_one_range_is_served(asked, status, sent, said):
    found, headers, part = told(range=asked)

    assert (found, part, headers.get("Content-Range")) == (status, sent, said)
    assert headers["Content-Length"] == str(sent[1])


def test_a_range_of_another_version_is_not_joined():
    assert told(range="bytes=0-3", if_range='"old"')[0] == 200
    assert told(range="bytes=0-3", if_range='"abc"')[0] == 206


NAMES = st.sampled_from(["range", "if-range", "if-none-match", "if-modified-since"])


@given(
    st.dictionaries(NAMES, st.text() | st.from_regex(r"\Abytes=[0-9]*-[0-9]*\Z")),
    st.integers(0, 1 << 40),
)
def test_no_header_makes_it_fail_or_send_what_is_not_there(asked, size):
    facts = Facts(size, '"abc"', MODIFIED, "x/y", "max-age=61")
    found = answer(facts, asked)

    assert 0 <= found.first <= found.first + found.length <= size
