"""What publishers send, the original's and ours, as values; anything else is refused."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import (
    DeniedError,
    ExistsError,
    FormatError,
    InvalidInputError,
    NotFoundError,
)
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.gateway.access import KeyFolder, read_key_file
from cernvm.fs.gateway.answers import describe_problem
from cernvm.fs.gateway.client import parse_seconds
from cernvm.fs.gateway.lease import LeasePath, PathBusyError
from cernvm.fs.gateway.object_pack import (
    SentObject,
    format_pack_header,
    header_digest,
    parse_pack_header,
)
from cernvm.fs.gateway.protocol import (
    check_version,
    parse_commit_request,
    parse_lease_request,
    parse_payload_request,
)
from cernvm.fs.gateway.signature import Secret, format_key_file, parse_authorization, parse_key_file

ROOT = "d6747d09595c52d420faa9d5df4a599138b639a8"
objects = st.builds(
    SentObject,
    st.builds(Digest, st.sampled_from(Algorithm), st.binary(min_size=20, max_size=20)),
    st.sampled_from(ObjectKind),
    st.integers(0, 1 << 40),
)


def test_the_originals_requests_are_understood():
    lease = parse_lease_request(
        b'{"path" : "sft.cernvm.test/some/path", "api_version" : "2", "hostname" : "pub1"}'
    )
    payload = parse_payload_request(
        b'{"session_token" : "TOKEN", "payload_digest" : "ab12", "header_size" : "123", "api_version" : "2"}'
    )
    commit = parse_commit_request(
        json.dumps(
            {"old_root_hash": f"{ROOT}-shake128C", "new_root_hash": f"{ROOT}-shake128",
             "tag_name": "generic-2026-06-01T10:00:00Z", "tag_channel": 0, "tag_description": "d"}
        ).encode()
    )  # fmt: skip

    assert lease.path == LeasePath("sft.cernvm.test", b"/some/path")
    assert (lease.hostname, check_version(lease)) == ("pub1", 2)
    assert (payload.token, payload.header_bytes) == ("TOKEN", 123)
    assert commit.old_root == commit.new_root == Digest(Algorithm.SHAKE128, bytes.fromhex(ROOT))
    assert (commit.tag, commit.description) == ("", "d")


def test_a_path_may_hold_any_bytes():
    request = parse_lease_request(b'{"path": "t.test/a\xff", "api_version": 3}')

    assert request.path.path == b"/a\xff"


def test_a_publisher_that_speaks_an_older_protocol_is_refused():
    with pytest.raises(InvalidInputError):
        check_version(parse_lease_request(b'{"path": "t.test/", "api_version": "1"}'))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"\xff", b'{"path": 1, "api_version": 2}', b'{"path": "t.test/"}',
     b'{"path": "t.test/", "api_version": true}', b'{"path": "t.test/", "api_version": 1e999}',
     b'{"path": "t.test/", "api_version": ' + b"9" * 30 + b"}", b"[" * 50_000],
)  # fmt: skip
def test_what_is_no_request_is_refused(body):
    with pytest.raises(FormatError):
        parse_lease_request(body)


@given(st.binary(max_size=200))
def test_no_body_makes_the_parsers_fail_otherwise(body):
    for parse in (parse_lease_request, parse_payload_request, parse_commit_request):
        try:
            parse(body)
        except (FormatError, InvalidInputError):
            pass


@given(st.lists(objects, max_size=20))
def test_a_packs_header_says_what_the_pack_holds(sent):
    assert parse_pack_header(format_pack_header(sent)) == tuple(sent)


def test_a_packs_header_is_what_the_original_writes():
    digest = Digest(Algorithm.RMD160, bytes.fromhex(ROOT))
    header = format_pack_header([SentObject(digest, ObjectKind.CATALOG, 7)])

    assert header == f"V2\nS7\nN1\n--\nC {ROOT}-rmd160C 7\n".encode()
    assert header_digest(header) == hashlib.sha1(header).hexdigest()


@pytest.mark.parametrize(
    "header",
    [b"", b"V1\nS0\nN0\n--\n", b"V2\nS1\nN0\n--\n", b"V2\nS0\nN1\n--\n",
     f"V2\nS7\nN1\n--\nC {ROOT}Z 7\n".encode(), f"V2\nS-7\nN1\n--\nC {ROOT} -7\n".encode(),
     f"V2\nS7\nN1\n--\nN {ROOT} 7 Li4vLi4vZXZpbA\n".encode(), b"V2\nS7\nN1\n--\nC ../x 7\n",
     f"V2\nS7\nN1\n--\nC {ROOT} 7\xff\n".encode("latin-1")],
)  # fmt: skip
def test_a_header_that_lies_is_refused(header):
    with pytest.raises(FormatError):
        parse_pack_header(header)


@given(st.binary(max_size=300))
def test_no_header_makes_the_parser_fail_otherwise(header):
    try:
        parse_pack_header(b"V2\nS0\nN1\n--\n" + header)
    except FormatError:
        pass


def test_a_signature_is_made_as_the_original_makes_it():
    secret = Secret("key1", "password")
    header = secret.authorization(b"message")

    mac = hmac.new(b"password", b"message", hashlib.sha1).hexdigest()
    assert header == "key1 " + base64.b64encode(mac.encode()).decode()
    key_id, signature = parse_authorization(header)
    assert key_id == "key1"
    assert secret.signed(b"message", signature)
    assert not secret.signed(b"massage", signature)


@pytest.mark.parametrize("header", ["", "key1", "key1 ", "key1 %%", "../key1 YQ==", "a b YQ=="])
def test_an_authorization_that_is_none_is_refused(header):
    with pytest.raises(FormatError):
        parse_authorization(header)


def test_a_secret_is_never_shown():
    assert "password" not in repr(Secret("key1", "password"))


def test_a_key_file_is_the_originals():
    assert parse_key_file("plain_text\tkey1   secret12\nmore\n") == Secret("key1", "secret12")
    assert parse_key_file(format_key_file(Secret("k", "secret12")).decode()).id == "k"
    for text in ("", "plain_text key1", "other key1 secret12", "plain_text ../k secret12"):
        with pytest.raises(FormatError):
            parse_key_file(text)


def test_a_key_opens_its_path_and_what_is_below(tmp_path):
    folder = KeyFolder(tmp_path / "keys")
    made = folder.add(LeasePath("t.test", b"/atlas"), key_id="atlas")
    key = folder.find("atlas")

    assert key == made
    key.check(LeasePath("t.test", b"/atlas/sw"))
    for path in (LeasePath("t.test"), LeasePath("t.test", b"/atlas2"), LeasePath("x.test")):
        with pytest.raises(DeniedError):
            key.check(path)
    assert folder.file("atlas").stat().st_mode & 0o777 == 0o600


def test_a_key_may_be_for_several_repositories_and_is_made_once_for_each(tmp_path):
    folder = KeyFolder(tmp_path / "keys")
    first = folder.add(LeasePath("t.test"), key_id="k")
    second = folder.add(LeasePath("u.test", b"/x"), key_id="k")

    assert second.secret == first.secret
    assert second.paths == {"t.test": b"", "u.test": b"/x"}
    with pytest.raises(ExistsError):
        folder.add(LeasePath("t.test"), key_id="k")
    folder.remove("k")
    with pytest.raises(NotFoundError):
        folder.find("k")


def test_a_key_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "k.gw"
    path.write_bytes(b"plain_text k secret12\n")
    path.chmod(0o640)

    with pytest.raises(DeniedError):
        read_key_file(path)


def test_a_busy_path_is_told_as_both_of_the_originals_clients_take_it():
    answer = describe_problem(PathBusyError(LeasePath("t.test"), left_s=12.3))

    assert answer == {"status": "path_busy", "time_remaining": 13}


@pytest.mark.parametrize(
    ("value", "left_s"), [(12, 12), ("1h59m3.5s", 7143.5), ("42s", 42), (None, 3600), ("?", 3600)]
)
def test_the_time_that_a_gateway_tells_is_understood_in_either_form(value, left_s):
    assert parse_seconds(value) == left_s
