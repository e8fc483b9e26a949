"""Questions and answers of peers, as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import FormatError
from cernvm.fs.peers import Peer
from cernvm.fs.peers.messages import (
    Question,
    format_answer,
    format_question,
    is_proven,
    parse_question,
    parse_referral,
)
from cernvm.net.head import parse_head

PEER = Peer("192.0.2.1", 28001)
PATH = "data/00/" + 38 * "a"
SECRET = b"sixteen bytes of it"


@given(
    st.sampled_from(["", "-rmd160", "-shake128"]),
    st.sampled_from(["", "C", "P", "K"]),
    st.integers(0, 65535),
    st.integers(0, 1000),
)
def test_a_question_is_read_as_it_is_written(tag, letter, port, wait_ms):
    path = PATH + tag + letter
    head = format_question("a.test", path, PEER, port=port, wait_s=wait_ms / 1000)
    assert parse_question(head) == Question("a.test", path, str(PEER), port, wait_ms / 1000)


@given(st.binary(max_size=300))
def test_bytes_are_a_question_or_refused(data):
    try:
        question = parse_question(b"GET /" + data + b"\r\n\r\n")
    except FormatError:
        return
    assert question.path == "" or question.path.startswith("data/")


def test_nobody_makes_us_wait_for_long():
    head = format_question("a.test", PATH, PEER, wait_s=9999)
    assert parse_question(head).wait_s == 1.0


@pytest.mark.parametrize("later_s", [0, 59, -59])
def test_a_proof_holds_for_a_minute(later_s):
    question = parse_question(format_question("a.test", PATH, PEER, secret=SECRET, now_s=1e9))
    assert is_proven(question, SECRET, PEER, 1e9 + later_s)


def test_a_proof_holds_for_one_peer_one_object_one_secret_and_not_for_long():
    question = parse_question(format_question("a.test", PATH, PEER, secret=SECRET, now_s=1e9))
    assert not is_proven(question, SECRET, PEER, 1e9 + 61)
    assert not is_proven(question, SECRET + b"x", PEER, 1e9)
    assert not is_proven(question, SECRET, Peer("192.0.2.2", 28001), 1e9)
    other = Question("a.test", PATH + "C", question.host, 0, 0, question.said_at, question.said)
    assert not is_proven(other, SECRET, PEER, 1e9)
    assert not is_proven(Question("a.test", PATH, str(PEER)), SECRET, PEER, 1e9)


@pytest.mark.parametrize(("ask", "status"), [(None, 200), (PEER, 404)])
def test_an_answer_is_one_that_any_http_client_reads(ask, status):
    head = parse_head(format_answer(status, "Any", 7, ask))
    assert (head.status, head.length_bytes) == (status, 7)
    assert parse_referral(head.headers.get("cvm-ask", "")) == ask


@given(st.text(max_size=60))
def test_a_referral_is_a_peer_or_nothing(text):
    peer = parse_referral(text)
    assert peer is None or str(peer) == text
