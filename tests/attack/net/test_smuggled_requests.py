"""Requests whose length a proxy in front may read otherwise than our servers: what follows is no request of its own."""

import socket
import threading

import pytest

from cernvm.core.home import Home
from cernvm.fs.gateway.server import GatewayServer
from cernvm.fs.gateway.service import open_gateway
from cernvm.fs.publish.serving import RepositoryServer

SECOND = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
TRICKS = {
    "a body": b"Content-Length: %d\r\n\r\n",
    "none, and then one": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n",
    "two lengths": b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n",
    "a list": b"Content-Length: 0, %d\r\n\r\n",
    "a space before the colon": b"Content-Length : %d\r\n\r\n",
    "no header before it": b"no header\r\nContent-Length: %d\r\n\r\n",
    "chunks": b"Transfer-Encoding: chunked\r\nX: %d\r\n\r\n",
    "a sign": b"Content-Length: +%d\r\n\r\n",
}


@pytest.fixture(params=["repositories", "gateway"])
def port(request, tmp_path):
    if request.param == "gateway":
        gateway = open_gateway(Home(tmp_path))
        server = GatewayServer("127.0.0.1", 0, gateway)
    else:
        gateway = None
        server = RepositoryServer("127.0.0.1", 0, dict)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()
    server.server_close()
    if gateway is not None:
        gateway.book.close()


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS.keys())
def test_what_follows_a_head_of_doubtful_length_is_not_answered(port, trick):
    first = b"GET /api/v1/ HTTP/1.1\r\nHost: x\r\n" + trick % len(SECOND)
    assert answers(port, first + SECOND) == 1


def test_requests_that_follow_each_other_are_answered(port):
    assert answers(port, SECOND + SECOND) == 2


def answers(port, sent):
    """How many answers come for what is sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while block := connection.recv(1 << 16):
            got += block
    return got.count(b"HTTP/1.1 ")
