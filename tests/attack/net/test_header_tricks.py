"""Heads and bodies made to be understood differently by two readers, or not to end."""

import socket
import threading
import time
from contextlib import suppress

import pytest

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, HostError, InvalidInputError
from cernvm.net import Chain, ChainFetcher, HttpExchange, Timing, Want, fetch
from cernvm.net.document import Collected

TIMING = Timing(connect_s=0.5, stall_s=0.6, slow_bytes_per_s=1024)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"


class Scripted:
    """Sends the next of its texts for each request, whatever that is; a text that is None repeats without end."""

    def __init__(self, *texts, endless=b""):
        self.texts = list(texts)
        self.endless = endless
        self.requests = []
        self.connections = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self):
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self):
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with connection, suppress(OSError):
            connection.settimeout(0.05)
            unread = b""
            while not self._stop.is_set():
                try:
                    part = connection.recv(4096)
                except TimeoutError:
                    continue
                if not part:
                    return
                unread += part
                while b"\r\n\r\n" in unread:
                    head, _, unread = unread.partition(b"\r\n\r\n")
                    self.requests.append(head.decode())
                    connection.settimeout(1)
                    connection.sendall(self.texts.pop(0) if self.texts else GOOD)
                    while self.endless and not self._stop.is_set():
                        connection.sendall(self.endless)


@pytest.fixture
def serve():
    made = []

    def make(*texts, **more):
        made.append(Scripted(*texts, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def exchange():
    one = HttpExchange(timing=TIMING)
    yield one
    one.close()


def get(server, exchange, *, seconds=5.0, limit_bytes=1000, follow_redirects=False):
    fetcher = ChainFetcher(Chain((server.url,)), exchange, follow_redirects=follow_redirects)
    deadline = Deadline.after(seconds)
    return fetch(fetcher, "x", limit_bytes=limit_bytes, deadline=deadline, accept=bytes)


def answer(*lines, body=b"good"):
    return b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", body])


TRICKS = {
    "two lengths": answer(b"Content-Length: 4", b"Content-Length: 5"),
    "the same length twice": answer(b"Content-Length: 4", b"Content-Length: 4"),
    "a list of lengths": answer(b"Content-Length: 4, 4"),
    "a negative length": answer(b"Content-Length: -4"),
    "a length and chunks": answer(
        b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"4\r\ngood\r\n0\r\n\r\n"
    ),
    "an unknown coding": answer(b"Transfer-Encoding: gzip, chunked"),
    "a folded header": answer(b"X: a", b" Content-Length: 4"),
    "a space before the colon": answer(b"Content-Length : 4"),
    "a bare line end": answer(b"X: a\nContent-Length: 4"),
    "a bare carriage return": answer(b"X: a\rContent-Length: 4"),
    "a zero byte": answer(b"X: a\0b", b"Content-Length: 4"),
    "line ends of another system": b"HTTP/1.1 200 OK\nContent-Length: 4\n\ngood\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "a chunk of negative size": answer(b"Transfer-Encoding: chunked", body=b"-4\r\ngood\r\n"),
    "a chunk without its end": answer(
        b"Transfer-Encoding: chunked", body=b"4\r\ngoodX\r\n0\r\n\r\n"
    ),
    "a head of 20 kB": answer(b"X: " + b"x" * 20_000, b"Content-Length: 4"),
    "interim answers without end": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50,
}


@pytest.mark.parametrize("trick", TRICKS)
def test_what_two_readers_could_understand_differently_is_no_answer(serve, exchange, trick):
    server = serve(*[TRICKS[trick]] * 4)

    with pytest.raises(HostError):
        get(server, exchange)


def test_a_few_interim_answers_are_passed_over(serve, exchange):
    server = serve(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 2 + GOOD)

    assert get(server, exchange) == b"good"


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Filler: yes\r\n" * 100),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nevil\r\n" * 100),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"T: railer\r\n" * 100),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"evil" * 1000),
    ],
)
def test_what_never_ends_is_ended_here(serve, exchange, start, endless):
    server = serve(*[start] * 9, endless=endless)
    started = time.monotonic()

    with pytest.raises((HostError, DeadlineError)):
        get(server, exchange, seconds=3)
    assert time.monotonic() - started < 3


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(serve, exchange):
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    server = serve(GOOD + evil)

    assert [get(server, exchange) for _ in range(3)] == [b"good"] * 3
    assert server.connections == 2


def test_an_answer_slipped_in_among_many_shifts_the_rest_and_each_is_for_its_digest_to_refuse(
    serve, exchange
):
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    server = serve(GOOD, GOOD + evil)
    fetcher = ChainFetcher(Chain((server.url,)), exchange)
    wants = [Want("x", lambda: Collected(bytes), 100) for _ in range(6)]

    got = list(fetcher.fetch_many(wants, deadline=Deadline.after(5)))

    assert len(got) == 6
    assert get(server, exchange) == b"good"  # what was left over went with its connection


def redirect(location, status=b"302 Found"):
    return b"HTTP/1.1 %s\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location)


def test_a_redirect_is_followed_when_that_was_allowed(serve, exchange):
    other = serve()
    server = serve(redirect(f"{other.url}/else".encode()))

    assert get(server, exchange, follow_redirects=True) == b"good"
    assert other.requests[0].startswith("GET /else HTTP/1.1")


def test_a_redirect_is_not_followed_when_it_was_not_allowed(serve, exchange):
    other = serve()
    server = serve(redirect(f"{other.url}/else".encode()))

    with pytest.raises(HostError, match="302"):
        get(server, exchange)
    assert other.requests == []


def test_redirects_in_a_circle_end(serve, exchange):
    server = serve(*[redirect(b"/x")] * 50)

    with pytest.raises(HostError, match="circle"):
        get(server, exchange, follow_redirects=True)
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "location",
    [b"https://127.0.0.1/x", b"file:///etc/passwd", b"http://a@127.0.0.1/x", b"gopher://x", b""],
)
def test_a_redirect_never_leaves_the_scheme_and_never_carries_a_name(serve, exchange, location):
    server = serve(redirect(location))

    with pytest.raises(HostError):
        get(server, exchange, follow_redirects=True)


def test_an_answer_for_another_part_is_not_taken(serve, exchange):
    part = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes %s\r\nContent-Length: 4\r\n\r\nevil"
    for lie in (b"0-3/9", b"4-8/9", b"4-6/9", b"4-7", b"4-7/9, 0-3/9", b"x"):
        server = serve(part % lie)
        fetcher = ChainFetcher(Chain((server.url,)), exchange)

        with pytest.raises(HostError):
            fetcher.fetch_into(
                "x",
                lambda: Collected(bytes),
                limit_bytes=100,
                deadline=Deadline.after(2),
                byte_range=(4, 7),
            )


@pytest.mark.parametrize("path", ["x y", "x\r\nHost: evil", "x\n", "x\t", "é", "x\x7f"])
def test_a_path_cannot_say_more_than_a_path(serve, exchange, path):
    server = serve()
    fetcher = ChainFetcher(Chain((server.url,)), exchange)

    with pytest.raises(InvalidInputError):
        fetch(fetcher, path, limit_bytes=9, deadline=Deadline.after(2), accept=bytes)
    assert server.requests == []
