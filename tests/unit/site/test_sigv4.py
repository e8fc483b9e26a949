"""Our verifier against the signer of the AWS SDK."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import (
    CvmError,
    DeniedError,
    ExpiredError,
    InvalidInputError,
    SignatureError,
)
from cernvm.site import sigv4
from cernvm.site.sigv4 import SignedRequest, verify

KEY, SECRET, REGION = "CVM0123456789ABCDEF", "s3cr3t/with+signs=", "local"
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def signed(
    *,
    method="POST",
    query="",
    body=b"",
    headers=None,
    at=NOW,
    key=KEY,
    secret=SECRET,
    region=REGION,
):
    """The request as the SDK signs it at a given moment."""
    url = f"http://127.0.0.1:8773/{'?' + query if query else ''}"
    request = AWSRequest(method, url, headers=headers or {}, data=body)
    auth = SigV4Auth(Credentials(key, secret), "ec2", region)
    clock = SimpleNamespace(now=lambda: at)
    with pytest.MonkeyPatch.context() as patch:
        # the SDK has no other way to sign at a chosen time
        patch.setattr(
            "botocore.auth.get_current_datetime", lambda: clock.now().replace(tzinfo=None)
        )
        auth.add_auth(request)
    sent = {name.lower(): value for name, value in request.headers.items()}
    return SignedRequest(method, query, {"host": "127.0.0.1:8773", **sent}, body)


def check(request, *, now=NOW, secrets=None):
    return verify(request, (secrets or {KEY: SECRET}).get, now=now, region=REGION)


def changed(request, **changes):
    values = {name: getattr(request, name) for name in ("method", "query", "headers", "body")}
    return SignedRequest(**{**values, **changes})


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)


@given(st.dictionaries(words.filter(bool), words, max_size=6), st.binary(max_size=200))
def test_what_the_sdk_signs_verifies(parameters, extra):
    body = urlencode(parameters).encode() + extra

    assert check(signed(body=body)).access_key_id == KEY


@given(st.dictionaries(words.filter(bool), words, min_size=1, max_size=6))
def test_a_signed_query_verifies(parameters):
    query = urlencode(parameters, quote_via=quote, safe="-_.~")

    assert check(signed(method="GET", query=query)).access_key_id == KEY


@given(st.binary(min_size=1, max_size=100), st.data())
def test_any_changed_byte_of_the_body_is_noticed(body, data):
    request = signed(body=body)
    place = data.draw(st.integers(0, len(body) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != body[place]))

    with pytest.raises(SignatureError):
        check(changed(request, body=body[:place] + bytes([other]) + body[place + 1 :]))


@given(st.text(max_size=300))
def test_no_authorization_header_breaks_the_verifier(text):
    request = signed(body=b"x")

    with pytest.raises(CvmError):
        check(changed(request, headers={**request.headers, "authorization": text}))


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-date": "yesterday"},
        {"x-amz-date": "20261121T120001Z"},
        {"x-amz-extra": "unsigned"},
        {"host": "elsewhere:1"},
    ],
)
def test_a_changed_or_added_header_is_noticed(headers):
    request = signed(body=b"x")

    with pytest.raises((SignatureError, InvalidInputError)):
        check(changed(request, headers={**request.headers, **headers}))


def test_a_missing_signed_header_is_noticed():
    request = signed(body=b"x", headers={"Content-Type": "text/plain"})
    headers = {name: value for name, value in request.headers.items() if name != "content-type"}

    with pytest.raises(SignatureError):
        check(changed(request, headers=headers))


@pytest.mark.parametrize("skew_s", [-901, 901, -86400, 86400])
def test_a_stale_or_future_date_is_refused(skew_s):
    with pytest.raises(ExpiredError):
        check(signed(body=b"x"), now=NOW + timedelta(seconds=skew_s))


@pytest.mark.parametrize("skew_s", [-899, 0, 899])
def test_a_small_skew_is_allowed(skew_s):
    check(signed(body=b"x"), now=NOW + timedelta(seconds=skew_s))


def test_a_wrong_secret_is_refused():
    with pytest.raises(SignatureError):
        check(signed(body=b"x", secret="another"))


def test_an_unknown_key_is_refused():
    with pytest.raises(DeniedError):
        check(signed(body=b"x", key="CVMFFFF"))


def test_another_region_is_refused():
    with pytest.raises(SignatureError, match="elsewhere"):
        check(signed(body=b"x", region="elsewhere"))


def test_an_unsigned_request_is_refused():
    request = signed(body=b"x")
    headers = {k: v for k, v in request.headers.items() if k != "authorization"}

    with pytest.raises(DeniedError):
        check(changed(request, headers=headers))


def test_the_method_is_signed():
    with pytest.raises(SignatureError):
        check(changed(signed(method="GET", query="Action=DescribeRegions"), method="POST"))


def test_the_clock_skew_is_fifteen_minutes():
    assert sigv4.CLOCK_SKEW_S == 900
