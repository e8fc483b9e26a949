"""Which address does what, and what must be signed for it.

Source: docs/formats/gateway.md, "Requests".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum

from cernvm.core.errors import DeniedError, FormatError, NotFoundError
from cernvm.fs.format.objects import parse_object_path
from cernvm.fs.gateway.access import Key
from cernvm.fs.gateway.answers import Message, describe_lease, describe_repository
from cernvm.fs.gateway.lease import LeasePath, parse_lease_path
from cernvm.fs.gateway.payload import Read
from cernvm.fs.gateway.protocol import (
    API_VERSION,
    PayloadRequest,
    check_version,
    parse_collect_request,
    parse_commit_request,
    parse_lease_request,
    parse_listen_request,
    parse_object,
)
from cernvm.fs.gateway.service import Gateway
from cernvm.fs.survey.collect import Keeping

ROOT = "/api/v1"
MAX_ASKED = 50_000


class Signed(Enum):
    """What of a request its signature covers."""

    NOTHING = "nothing"
    BODY = "body"
    TOKEN = "token"  # noqa: S105  # a part of the address
    MESSAGE = "message"  # the body's beginning, as long as the header Message-Size says
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose signature was checked.

    Shape: `name` is what the address ends with (a token, a repository, a path); `key` is None where nothing is signed;
    `payload` and `read` are what a payload has.
    """

    name: str
    body: bytes
    key: Key | None = None
    payload: PayloadRequest | None = None
    read: Read | None = None

    @property
    def signer(self) -> Key:
        """The key that signed."""
        assert self.key is not None
        return self.key


Action = Callable[[Gateway, Request], Message]
# Events; None whenever it is time to see whether anybody still listens.
Events = Generator[Message | None, None, None]
Stream = Callable[[Gateway, Request], Events]


@dataclass(frozen=True, slots=True)
class Route:
    """An address and what it does: one answer, or a stream of events.

    Shape: `is_admin` where only an administrator's key will do, `is_payload` where a pack follows.
    """

    method: str
    pattern: re.Pattern[str]
    signed: Signed
    action: Action | None = None
    stream: Stream | None = None
    is_admin: bool = False
    is_payload: bool = False


def find_route(method: str, path: str) -> tuple[Route, str]:
    """The route of a request and what its address ends with; `NotFoundError`, `DeniedError` for another method."""
    fits = [(route, match) for route in ROUTES if (match := route.pattern.fullmatch(path))]
    for route, match in fits:
        if route.method == method:
            return route, match.groupdict().get("name") or ""
    if fits:
        raise DeniedError(f"{path[:80]} takes no {method[:20]}")
    raise NotFoundError("address", path[:80])


def _welcome(gateway: Gateway, request: Request) -> Message:  # noqa: ARG001
    return {"status": "ok", "api_version": API_VERSION, "server": "cvm"}


def _repositories(gateway: Gateway, request: Request) -> Message:
    keys = gateway.keys.all()
    rows = {
        one.name: describe_repository(one, keys, is_open=gateway.book.is_open(one.name))
        for one in gateway.repositories()
    }
    if not request.name:
        return {"status": "ok", "data": rows}
    if request.name not in rows:
        raise NotFoundError("repository", request.name)
    return {"status": "ok", "data": rows[request.name]}


def _leases(gateway: Gateway, request: Request) -> Message:
    if request.name:
        return {"status": "ok", "data": describe_lease(gateway.book.find(request.name))}
    rows = {str(lease.path): describe_lease(lease) for lease in gateway.book.leases()}
    return {"status": "ok", "data": rows}


def _lease(gateway: Gateway, request: Request) -> Message:
    wanted = parse_lease_request(request.body)
    lease = gateway.lease(wanted, request.signer)
    return {
        "status": "ok",
        "session_token": lease.token,
        "max_api_version": check_version(wanted),
        "ttl_s": lease.ttl_s,
    }


def _commit(gateway: Gateway, request: Request) -> Message:
    wanted = parse_commit_request(request.body)
    answer = gateway.commit(request.name, wanted, request.signer)
    return {"status": "ok", "final_revision": answer.revision, "root_hash": answer.root}


def _refresh(gateway: Gateway, request: Request) -> Message:
    return {"status": "ok", "ttl_s": gateway.refresh(request.name, request.signer).ttl_s}


def _cancel(gateway: Gateway, request: Request) -> Message:
    gateway.cancel(request.name, request.signer)
    return {"status": "ok"}


def _payload(gateway: Gateway, request: Request) -> Message:
    assert request.payload is not None
    assert request.read is not None
    received = gateway.receive(request.payload, request.read, request.signer)
    return {"status": "ok", "objects": received.objects, "stored": received.stored_objects}


def _missing(gateway: Gateway, request: Request) -> Message:
    paths = parse_object(request.body).get("objects")
    if not isinstance(paths, list) or len(paths) > MAX_ASKED:
        raise FormatError("is no list of objects, or too long", where="request", field="objects")
    for path in paths:
        parse_object_path(path if isinstance(path, str) else "")
    return {"status": "ok", "missing": gateway.missing(request.name, paths, request.signer)}


def _open_or_close(gateway: Gateway, request: Request) -> Message:
    wanted = parse_object(request.body).get("enable")
    if not isinstance(wanted, bool):
        raise FormatError("is neither true nor false", where="request", field="enable")
    path = parse_lease_path(request.name)
    request.signer.check(LeasePath(path.repository))
    gateway.book.set_open(path.repository, is_open=wanted)
    return {"status": "ok"}


def _cancel_below(gateway: Gateway, request: Request) -> Message:
    path = parse_lease_path(request.name)
    request.signer.check(path)
    taken = gateway.book.cancel_below(path)
    return {"status": "ok", "cancelled": [str(lease.path) for lease in taken]}


def _collect(gateway: Gateway, request: Request) -> Message:
    wanted = parse_collect_request(request.body)
    request.signer.check(LeasePath(wanted.name))
    keeping = Keeping(revisions=wanted.revisions, days=wanted.days)
    done = gateway.collect(wanted.name, keeping, dry_run=wanted.dry_run)
    told = (
        f"{done.gone_revisions} revisions gone, {done.kept_revisions} kept; "
        f"{done.objects + done.leftovers} objects, {done.freed_bytes} bytes freed"
    )
    return {"status": "ok", "output": told}


def _announce(gateway: Gateway, request: Request) -> Message:
    # what was announced is not believed: the store is looked at
    gateway.notices.look(parse_listen_request(request.body))
    return {"status": "ok"}


def _listen(gateway: Gateway, request: Request) -> Events:
    name = parse_listen_request(request.body)
    gateway.store(name)
    return gateway.notices.listen(name)


def _at(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(ROOT) + pattern)


_TOKEN = "(?P<name>[A-Za-z0-9=_-]{16,128})"  # noqa: S105
_NAME = "(?P<name>[a-z0-9.-]{1,255})"

ROUTES = (
    Route("GET", _at("/?"), Signed.NOTHING, _welcome),
    Route("GET", _at("/repos/?"), Signed.NOTHING, _repositories),
    Route("GET", _at(f"/repos/{_NAME}"), Signed.NOTHING, _repositories),
    Route("POST", _at(f"/repos/{_NAME}"), Signed.BODY, _open_or_close, is_admin=True),
    Route("GET", _at("/leases/?"), Signed.NOTHING, _leases),
    Route("POST", _at("/leases/?"), Signed.BODY, _lease),
    Route("GET", _at(f"/leases/{_TOKEN}"), Signed.NOTHING, _leases),
    Route("POST", _at(f"/leases/{_TOKEN}"), Signed.TOKEN, _commit),
    Route("PATCH", _at(f"/leases/{_TOKEN}"), Signed.TOKEN, _refresh),
    Route("DELETE", _at(f"/leases/{_TOKEN}"), Signed.TOKEN, _cancel),
    Route("POST", _at(f"/leases/{_TOKEN}/missing"), Signed.TOKEN, _missing),
    Route("DELETE", _at("/leases-by-path/(?P<name>.+)"), Signed.ADDRESS, _cancel_below, is_admin=True),
    Route("POST", _at("/gc"), Signed.BODY, _collect, is_admin=True),
    Route("POST", _at("/notifications/publish"), Signed.NOTHING, _announce),
    Route("GET", _at("/notifications/subscribe"), Signed.NOTHING, stream=_listen),
    Route("POST", _at("/payloads/?"), Signed.MESSAGE, _payload, is_payload=True),
    Route("POST", _at(f"/payloads/{_TOKEN}"), Signed.TOKEN, _payload, is_payload=True),
)  # fmt: skip
