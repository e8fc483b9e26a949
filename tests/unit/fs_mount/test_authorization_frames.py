"""Frames to and from a helper: whatever comes back is a verdict or refused."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import MessageFormatError
from cernvm.fs.mount.authorization_frames import (
    HEAD,
    MAX_BODY_BYTES,
    Subject,
    format_handshake,
    format_quit,
    format_verify,
    parse_head,
    parse_ready,
    parse_verdict,
)


def body(**fields):
    return json.dumps({"cvmfs_authz_v1": fields}).encode()


def encoded(text):
    return base64.b64encode(text).decode()


def test_the_frames_to_a_helper_are_these_bytes():
    frame = format_verify("a.test", "x509%/cms", Subject(1000, 100, 42))
    text = (
        b'{"cvmfs_authz_v1": {"msgid": 2, "revision": 0, "fqrn": "a.test", "uid": 1000, "gid": 100, '
        b'"pid": 42, "membership": "eDUwOSUvY21z"}}'
    )
    assert frame == b"\x01\0\0\0" + len(text).to_bytes(4, "little") + text
    assert b'"msgid": 0' in format_handshake("a.test")
    assert b'"msgid": 4' in format_quit("a.test")


def test_a_permit_may_bring_a_token_or_a_certificate():
    told = parse_verdict(body(msgid=3, revision=0, status=0, ttl=7, bearer_token=encoded(b"abc\n")))
    assert (told.is_permitted, told.ttl_s) == (True, 7)
    assert told.credentials.bearer_token == "abc"
    told = parse_verdict(body(msgid=3, status=0, x509_proxy=encoded(b"PEM")))
    assert (told.ttl_s, told.credentials.certificate_pem) == (120, b"PEM")


@pytest.mark.parametrize("status", [1, 2, 3, 99, -1])
def test_every_other_status_is_a_refusal_without_credentials(status):
    told = parse_verdict(body(msgid=3, status=status, bearer_token=encoded(b"abc")))
    assert (told.is_permitted, told.credentials) == (False, None)


def test_a_time_to_live_is_bounded():
    assert parse_verdict(body(msgid=3, status=0, ttl=10**12)).ttl_s == 24 * 3600
    assert parse_verdict(body(msgid=3, status=0, ttl=-5)).ttl_s == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"null",
        b"[]",
        b'{"cvmfs_authz_v1": []}',
        b"[" * 100_000,
        body(msgid=2, status=0),
        body(msgid=True, status=0),
        body(msgid=3),
        body(msgid=3, status="0"),
        body(msgid=3, status=True),
        body(msgid=3, status=0, ttl="1"),
        body(msgid=3, status=0, bearer_token="!"),
        body(msgid=3, status=0, bearer_token=7),
        body(msgid=3, status=0, bearer_token=encoded(b"a\r\nHost: evil")),
        body(msgid=3, status=0, bearer_token=encoded(b"\xff")),
    ],
)
def test_an_answer_that_is_none_is_refused(answer):
    with pytest.raises(MessageFormatError):
        parse_verdict(answer)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_verdict_or_refused(data):
    for parse in (parse_verdict, parse_ready):
        with pytest.raises(MessageFormatError):
            parse(data)


@pytest.mark.parametrize(
    "head", [HEAD.pack(2, 10), HEAD.pack(1, 0), HEAD.pack(1, MAX_BODY_BYTES + 1), b"\xff" * 8]
)
def test_a_head_that_promises_nonsense_is_refused(head):
    with pytest.raises(MessageFormatError):
        parse_head(head)
