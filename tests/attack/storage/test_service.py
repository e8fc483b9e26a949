import time

import pytest

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
