"""The EC2 Query API over HTTP: signed forms in, XML out.

The body is bounded and has a deadline; nothing of a request is interpreted before its signature was verified.
Source: docs/formats/ec2.md.
"""

from __future__ import annotations

import logging
import uuid

import anyio
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import (
    CvmError,
    DeadlineError,
    DeniedError,
    FormatError,
    InvalidInputError,
)
from cernvm.core.log import fields
from cernvm.site.actions import Actions, Caller
from cernvm.site.problems import problem
from cernvm.site.query import MAX_BODY_BYTES, parse_request
from cernvm.site.sigv4 import SignedRequest, verify
from cernvm.site.state import AccessKey, SiteState
from cernvm.site.xml import error_response

log = logging.getLogger(__name__)

BODY_DEADLINE_S = 10.0
_FORM = "application/x-www-form-urlencoded"


def create_api(actions: Actions, state: SiteState, clock: Clock | None = None) -> Starlette:
    """The site's API as an ASGI application."""
    used_clock = clock or SystemClock()

    async def respond(request: Request) -> Response:
        request_id = str(uuid.uuid4())
        try:
            signed = await _read(request)
            caller = await to_thread.run_sync(
                _authenticate, signed, state, actions.region, used_clock
            )
            asked = parse_request(_form(signed))
            body, status = await actions.answer(asked, caller, request_id), 200
            log.debug("api.answered", extra=fields(action=type(asked).__name__, id=request_id))
        except CvmError as error:
            told = problem(error)
            body, status = error_response(told, request_id), told.status
            log.info("api.refused", extra=fields(code=told.code, error=error.what, id=request_id))
        return Response(body, status, media_type="text/xml;charset=UTF-8")

    return Starlette(routes=[Route("/", respond, methods=["GET", "POST"])])


async def _read(request: Request) -> SignedRequest:
    body = bytearray()
    try:
        with anyio.fail_after(BODY_DEADLINE_S):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise InvalidInputError(f"the request has more than {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise DeadlineError("receiving the request", after_s=BODY_DEADLINE_S) from None
    except ClientDisconnect:
        raise InvalidInputError("the request ended before its body did") from None
    return SignedRequest(
        request.method,
        request.scope["query_string"].decode("latin-1"),
        {name: ",".join(request.headers.getlist(name)) for name in request.headers},
        bytes(body),
    )


def _authenticate(request: SignedRequest, state: SiteState, region: str, clock: Clock) -> Caller:
    keys: dict[str, AccessKey] = {}

    def secret_of(access_key_id: str) -> str | None:
        key = state.access_key(access_key_id)
        if key is None:
            return None
        keys[access_key_id] = key
        return key.secret_access_key

    signer = verify(request, secret_of, now=clock.now(), region=region)
    key = keys.get(signer.access_key_id)
    if key is None:
        raise DeniedError(f"the access key {signer.access_key_id} is not known here")
    return Caller(key.owner_id, signer)


def _form(request: SignedRequest) -> str:
    if request.method == "GET":
        return request.query
    if request.query:
        raise InvalidInputError("a POST carries its parameters in the body, not after `?`")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise InvalidInputError(f"the body's content type is {kind[:80]!r}, not {_FORM}")
    try:
        return request.body.decode("ascii")
    except UnicodeDecodeError:
        raise FormatError("not a form: bytes beyond ASCII", where="request") from None
