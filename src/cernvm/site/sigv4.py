"""AWS Signature Version 4, the verifying side: who signed a request, and is it what they signed.

Only the header form is accepted, on the path `/`, for the service `ec2`. What makes a captured request useless later is
its date: it may differ from ours by `CLOCK_SKEW_S` at most; within that time, repeating it changes nothing (see
`docs/formats/ec2.md`, "Replays").
Source: docs/formats/ec2.md; AWS General Reference, "Signature Version 4 signing process".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cernvm.core.errors import DeniedError, ExpiredError, InvalidInputError, SignatureError

CLOCK_SKEW_S = 15 * 60
ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "ec2"
MAX_SIGNED_HEADERS = 50

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +"
    r"Credential=(?P<key>[\w-]{1,128})/(?P<day>\d{8})/(?P<region>[\w.-]{1,64})/(?P<service>\w{1,32})/aws4_request *, *"
    r"SignedHeaders=(?P<headers>[a-z0-9;_-]{1,2000}) *, *"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_DATE_FORM = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it arrived.

    Shape: `headers` has lower-case names; values of a repeated header are joined by commas. `query` is the raw text
    after `?`, still percent-encoded.
    """

    method: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed: the access key's id, and the signature, which names this very request."""

    access_key_id: str
    signature: str


@dataclass(frozen=True, slots=True)
class _Claim:
    access_key_id: str
    day: str
    region: str
    signed_headers: tuple[str, ...]
    signature: str
    signed_at: datetime

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/{SERVICE}/aws4_request"


def verify(
    request: SignedRequest,
    secret_of: Callable[[str], str | None],
    *,
    now: datetime,
    region: str,
) -> Signer:
    """The signer of a request, if key, date, headers and body all agree with its signature.

    `secret_of` gives the secret of an access key id, None for an unknown one.
    Errors: `DeniedError` without a signature or with an unknown key, `ExpiredError` outside the allowed clock skew,
    `InvalidInputError` for a malformed one, `SignatureError` for a wrong one.
    """
    claim = _read_claim(request, region)
    if abs(now - claim.signed_at) > timedelta(seconds=CLOCK_SKEW_S):
        raise ExpiredError(
            f"the request was signed at {claim.signed_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"which is more than {CLOCK_SKEW_S // 60} minutes from the site's clock",
            advice="set this machine's clock",
        )
    secret = secret_of(claim.access_key_id)
    if secret is None:
        raise DeniedError(
            f"the access key {claim.access_key_id} is not known here",
            advice="use the credentials in the region file that the site wrote",
        )
    expected = _signature(request, claim, secret)
    if not hmac.compare_digest(expected, claim.signature):
        raise SignatureError(
            "the request's signature does not match what arrived",
            advice="check the secret access key; a proxy on the way must not change requests",
        )
    return Signer(claim.access_key_id, claim.signature)


def _read_claim(request: SignedRequest, region: str) -> _Claim:
    text = request.headers.get("authorization")
    if not text:
        raise DeniedError(
            "the request carries no signature", advice="sign it with AWS Signature Version 4"
        )
    match = _AUTHORIZATION.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f"the Authorization header is no {ALGORITHM} credential")
    if match["service"] != SERVICE or match["region"] != region:
        raise SignatureError(
            f"the request was signed for {match['service']} in {match['region']}, "
            f"this is {SERVICE} in {region}",
            advice=f"set the region to {region}",
        )
    signed = tuple(match["headers"].split(";"))
    _check_headers(signed, request.headers)
    moment = _read_date(request.headers["x-amz-date"])
    if moment.strftime("%Y%m%d") != match["day"]:
        raise SignatureError("the credential's day is not the day of X-Amz-Date")
    return _Claim(match["key"], match["day"], match["region"], signed, match["signature"], moment)


def _check_headers(signed: tuple[str, ...], headers: Mapping[str, str]) -> None:
    if len(signed) > MAX_SIGNED_HEADERS or list(signed) != sorted(set(signed)):
        raise InvalidInputError("the list of signed headers is not sorted, or too long")
    required = {"host", "x-amz-date"} | {name for name in headers if name.startswith("x-amz-")}
    if unsigned := sorted(required - set(signed)):
        raise SignatureError(f"the header {unsigned[0]} must be signed")
    if absent := sorted(set(signed) - set(headers)):
        raise SignatureError(f"the signed header {absent[0]} did not arrive")


def _read_date(text: str) -> datetime:
    try:
        return datetime.strptime(text, _DATE_FORM).replace(tzinfo=UTC)
    except ValueError:
        raise InvalidInputError(f"{text[:40]!r} is no X-Amz-Date") from None


def _signature(request: SignedRequest, claim: _Claim, secret: str) -> str:
    canonical = _canonical_request(request, claim.signed_headers)
    to_sign = "\n".join(
        (
            ALGORITHM,
            claim.signed_at.strftime(_DATE_FORM),
            claim.scope,
            hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest(),
        )
    )
    key = _hmac(b"AWS4" + secret.encode(), claim.day)
    for part in (claim.region, SERVICE, "aws4_request"):
        key = _hmac(key, part)
    return _hmac(key, to_sign).hex()


def _canonical_request(request: SignedRequest, signed_headers: tuple[str, ...]) -> str:
    headers = "".join(f"{name}:{_one_line(request.headers[name])}\n" for name in signed_headers)
    return "\n".join(
        (
            request.method,
            "/",
            _canonical_query(request.query),
            headers,
            ";".join(signed_headers),
            # of the body that arrived, never of the one a header speaks of
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def _canonical_query(query: str) -> str:
    pairs = [part.partition("=") for part in query.split("&") if part]
    return "&".join(f"{name}={value}" for name, _, value in sorted(pairs))


def _one_line(value: str) -> str:
    return " ".join(value.split())


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
