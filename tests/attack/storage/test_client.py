import time

import pytest

from cernvm.core.errors import DeadlineError, DigestMismatchError, HostError, UnavailableError

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Checksum-Sha256: %s\r\n"
    b"X-Stored-At: 2026-01-01T00:00:00+00:00\r\n\r\n"
)


def say(text):
    return lambda connection, _: connection.sendall(text)


def silence(_connection, stopped):
    stopped.wait(10)


def drip(connection, stopped):
    connection.sendall(HEAD % (1000, b"0" * 64))
    while not stopped.wait(0.1):
        connection.sendall(b"x")


BEHAVIOURS = {
    "silence": silence,
    "nothing": lambda _connection, _stopped: None,
    "rubbish": say(b"\0rubbish\r\n\r\n"),
    "no JSON": say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{"),
    "another JSON": say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"),
    "deep JSON": say(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"[" * 50_000),
    "a promise not kept": say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"),
    "a redirect": say(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    ),
    "a bad problem": say(
        b"HTTP/1.1 500 x\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n{]"
    ),
    "a bad problem in a header": say(
        b"HTTP/1.1 404 x\r\nX-Problem: {\r\nContent-Length: 0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("verb", ["list", "stat", "put"])
def test_a_server_that_misbehaves_is_our_error_in_time(bad_server, behaviour, verb):
    client = bad_server(BEHAVIOURS[behaviour]).client()
    calls = {
        "list": client.list,
        "stat": lambda: client.stat("a"),
        "put": lambda: client.put(
            "a",
            [b"x"],
            size_bytes=1,
            sha256="2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
        ),
    }
    began = time.monotonic()

    with pytest.raises(UnavailableError):
        calls[verb]()

    assert time.monotonic() - began < 3


def test_one_byte_at_a_time_does_not_stretch_the_deadline(bad_server):
    client = bad_server(drip).client()
    began = time.monotonic()

    with pytest.raises((DeadlineError, HostError)):
        list(client.get("a"))

    assert time.monotonic() - began < 5


def test_a_server_that_reads_no_further_does_not_hold_an_upload(bad_server):
    client = bad_server(silence).client()
    began = time.monotonic()

    with pytest.raises(HostError, match=r"silent for 0\.5 s"):
        client.put("a", [bytes(1 << 20)] * 30, size_bytes=30 << 20, sha256="0" * 64)

    assert time.monotonic() - began < 3


def test_content_that_is_not_what_was_stored_is_refused(bad_server):
    client = bad_server(say(HEAD % (3, b"0" * 64) + b"bad")).client()

    with pytest.raises(DigestMismatchError):
        list(client.get("a"))
