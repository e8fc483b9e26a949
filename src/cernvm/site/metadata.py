"""The metadata service that an instance finds at 169.254.169.254: who it is, and its user-data.

Both versions of the protocol: plain requests, and requests with a token that was fetched by PUT first. The caller is
whoever holds the address that the connection comes from, and is told about itself only; instances share no address and
cannot take another's (they have no right to set addresses).
Source: docs/formats/metadata.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import CvmError
from cernvm.site.instance import Instance

VERSIONS = ("1.0", "2007-01-19", "2007-12-15", "2009-04-04", "2016-04-19", "2021-07-15", "latest")
TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105  # a header's name
TTL_HEADER = f"{TOKEN_HEADER}-ttl-seconds"
TTL_MAX_S = 6 * 3600
# a connection's packets go no further than the instance itself, not to what it may route for
HOP_LIMIT = 1
PER_INSTANCE = 8  # connections at one time

_TTL = re.compile(r"[1-9]\d{0,4}", re.ASCII)

# who holds an address, with the user-data
Lookup = Callable[[IPv4Address], tuple[Instance, bytes] | None]
# a leaf's text or a folder
Tree = dict[str, "str | bytes | Tree"]

_HEADERS = {"Cache-Control": "no-store", "Server": "EC2ws"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Session tokens of the second version: each opens one instance's data until it expires.

    Shape: base64url of `expiry in seconds, 8 bytes` and `HMAC-SHA256 of instance id and expiry, 32 bytes`.
    """

    clock: Clock = field(default_factory=SystemClock)
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def issue(self, instance_id: str, ttl_s: int) -> str:
        """A token for one instance."""
        expiry = (int(self.clock.now().timestamp()) + ttl_s).to_bytes(8, "big")
        return base64.urlsafe_b64encode(expiry + self._mark(instance_id, expiry)).decode()

    def opens(self, token: str, instance_id: str) -> bool:
        """Whether this token was issued to this instance and has not expired."""
        try:
            raw = base64.urlsafe_b64decode(token.encode("ascii"))
        except (binascii.Error, ValueError):
            return False
        expiry, mark = raw[:8], raw[8:]
        genuine = hmac.compare_digest(mark, self._mark(instance_id, expiry))
        return genuine and int.from_bytes(expiry, "big") > self.clock.now().timestamp()

    def _mark(self, instance_id: str, expiry: bytes) -> bytes:
        return hmac.digest(self.key, instance_id.encode() + expiry, hashlib.sha256)


def create_metadata(
    lookup: Lookup, *, tokens: Tokens | None = None, require_token: bool = False
) -> Starlette:
    """The metadata service as an ASGI application."""
    issued = tokens or Tokens()

    async def token(request: Request) -> Response:
        found = await _caller(request, lookup)
        if isinstance(found, Response):
            return found
        if "x-forwarded-for" in request.headers:
            return _refusal(403)  # a proxy that lets others in is not the instance
        ttl = request.headers.get(TTL_HEADER, "")
        if not _TTL.fullmatch(ttl) or int(ttl) > TTL_MAX_S:
            return _refusal(400)
        text = issued.issue(found[0].instance_id, int(ttl))
        return PlainTextResponse(text, headers={**_HEADERS, TTL_HEADER: ttl})

    async def read(request: Request) -> Response:
        found = await _caller(request, lookup)
        if isinstance(found, Response):
            return found
        instance, user_data = found
        shown = request.headers.get(TOKEN_HEADER)
        if shown is None and require_token:
            return _refusal(401)
        if shown is not None and not issued.opens(shown, instance.instance_id):
            return _refusal(401)
        return _answer(_tree(instance, user_data), request.url.path)

    return Starlette(
        routes=[
            Route("/latest/api/token", token, methods=["PUT"]),
            Route("/{path:path}", read, methods=["GET"]),
        ]
    )


async def _caller(request: Request, lookup: Lookup) -> tuple[Instance, bytes] | Response:
    if request.client is None:
        return _refusal(404)
    try:
        address = IPv4Address(request.client.host)
    except AddressValueError:
        return _refusal(404)
    try:
        found = await to_thread.run_sync(lookup, address)
    except CvmError:
        return _refusal(503)
    return found or _refusal(404)


def _tree(instance: Instance, user_data: bytes) -> Tree:
    """All that an instance may know about itself. Source: docs/formats/metadata.md, "Tree"."""
    address = str(instance.address)
    meta_data: Tree = {
        "ami-id": instance.image_id,
        "ami-launch-index": str(instance.launch_index),
        "ami-manifest-path": "(unknown)",
        "hostname": instance.hostname,
        "instance-id": instance.instance_id,
        "instance-type": instance.instance_type,
        "local-hostname": instance.hostname,
        "local-ipv4": address,
        "placement": {"availability-zone": "default"},
        "public-hostname": instance.hostname,
        "public-ipv4": address,
        "reservation-id": instance.reservation_id,
        "security-groups": "\n".join(instance.groups),
    }
    contents: Tree = {"meta-data": meta_data}
    if user_data:
        contents["user-data"] = user_data
    return dict.fromkeys(VERSIONS, contents)


def _answer(tree: Tree, path: str) -> Response:
    node: str | bytes | Tree = tree
    for part in [part for part in path.split("/") if part]:
        if not isinstance(node, dict) or part not in node:
            return _refusal(404)
        node = node[part]
    if isinstance(node, bytes):
        return Response(node, media_type="application/octet-stream", headers=_HEADERS)
    if isinstance(node, dict):
        node = "\n".join(f"{name}/" if isinstance(node[name], dict) else name for name in node)
    return PlainTextResponse(node, headers=_HEADERS)


def _refusal(status: int) -> Response:
    return PlainTextResponse(f"{status}\n", status, headers=_HEADERS)
