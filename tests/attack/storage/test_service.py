import socket
import time
from contextlib import ExitStack

import pytest

from cernvm.core.errors import NotFoundError
from cernvm.storage import Capability, mint_token
from cernvm.storage.disk import DiskStorage
from contract.storage.conftest import KEY, LiveService

PATH = "/v1/objects/jobs/7/1/a"


def request(service, method="PUT", path=PATH, *headers, body=b"", token=None):
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: x",
        "Connection: close",
        f"Authorization: Bearer {token or service.token()}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


SHA = "X-Checksum-Sha256: " + "0" * 64


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 400),
        ([SHA], 400),
        ([SHA, "Transfer-Encoding: chunked"], 400),
        (["Content-Length: 1"], 400),
        ([SHA, "Content-Length: -1"], 400),
        ([SHA, "Content-Length: 99999999999999999999"], 400),
        ([SHA, "Content-Length: 101"], 403),
        (["X-Checksum-Sha256: ../x", "Content-Length: 1"], 400),
    ],
)
def test_an_object_that_is_not_announced_properly_is_refused(service, headers, status):
    assert service.raw(request(service, "PUT", PATH, *headers)) == status
    assert service.storage.list() == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/objects/jobs/7/1/../../8/1/a",
        "/v1/objects/jobs/7/1/%2e%2e/%2e%2e/8/a",
        "/v1/objects/jobs/7/1/%2Fetc%2Fpasswd",
        "/v1/objects//etc/passwd",
        "/v1/objects/jobs/7/1/a%00b",
        "/v1/objects/jobs/7/1/a%0d%0aX:1",
        "/v1/objects/jobs/7/1/" + "a" * 5000,
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(service, path):
    length = "Content-Length: 0"

    assert service.raw(request(service, "PUT", path, SHA, length)) in (400, 403, 404)
    assert service.storage.list() == []


def test_a_sender_that_stops_is_given_up(service):
    began = time.monotonic()

    status = service.raw(request(service, "PUT", PATH, SHA, "Content-Length: 50", body=b"half"))

    assert status == 408
    assert time.monotonic() - began < 7
    assert service.storage.list() == []


def test_nobody_comes_without_a_token(service):
    for authorization in ("", "Authorization: Basic YTpi", "Authorization: Bearer"):
        lines = f"HEAD {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}"
        text = lines.rstrip().encode() + b"\r\n\r\n"

        assert service.raw(text) == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/v1", "/v1/objects/a/b"])
def test_there_is_nothing_else(service, path):
    assert service.raw(request(service, "POST", path)) in (404, 405)


def test_senders_that_dawdle_keep_nobody_from_asking(tmp_path):
    storage = DiskStorage(tmp_path / "patient")
    live = LiveService(storage, stall_s=8)
    token = mint_token(KEY, Capability("jobs/7/1", ("PUT",), int(time.time()) + 60, 100))
    with ExitStack() as held:
        held.callback(storage.close)
        held.callback(live.close)
        for number in range(50):
            place = socket.create_connection(("127.0.0.1", live.port), 5)
            held.enter_context(place)
            path = f"{PATH}{number}"
            place.sendall(request(live, "PUT", path, SHA, "Content-Length: 100", token=token))
        time.sleep(0.5)

        began = time.monotonic()
        with pytest.raises(NotFoundError):
            live.client("jobs/8/1").stat("jobs/8/1/a")
        assert time.monotonic() - began < 2
