"""A misbehaving HTTP server on loopback, and its twin in memory, behind one face for the contract suite."""

import re
import socket
import threading
import time
from contextlib import suppress

import pytest

from cernvm.net import Fault, HttpExchange, MemoryExchange, Timing

TIMING = Timing(connect_s=0.5, stall_s=0.6, slow_bytes_per_s=64)


class Mirror:
    """One real server; `faults` by path say how it misbehaves."""

    def __init__(self):
        self.documents = {}
        self.faults = {}
        self.requests = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self):
        self._stop.set()
        with suppress(OSError):
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
            unread = bytearray()
            while not self._stop.is_set():
                head = self._read_head(connection, unread)
                if "forgets what follows" in self.faults.values():
                    unread.clear()
                if head is None or not self._answer(connection, head):
                    return

    def _read_head(self, connection, unread):
        while (end := unread.find(b"\r\n\r\n")) < 0:
            if self._stop.is_set():
                return None
            try:
                part = connection.recv(4096)
            except TimeoutError:
                continue
            if not part:
                return None
            unread += part
        head = bytes(unread[:end])
        del unread[: end + 4]
        return head.decode("latin-1")

    def _answer(self, connection, head_of_request):
        path = head_of_request.split()[1].removeprefix(self.url).lstrip("/")
        no_cache = "no-cache" in head_of_request
        self.requests.append((path, no_cache))
        fault = self.faults.get(path) or self.faults.get("")
        body = self.documents.get(path)
        if fault is Fault.SILENT:
            self._stop.wait(5)
            return False
        if fault == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return False
        if fault == "drip headers":
            return self._drip(connection, b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 10_000)
        if fault == "drip body":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
            return self._drip(connection, b"x" * 10_000)
        if fault == "garbage":
            connection.sendall(b"\0\1\2 this is no HTTP\r\n\r\n")
            return False
        if fault == "endless headers":
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: yes\r\n" * 1000)
            return False
        if fault == "oversize without length":
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 200_000)
            return False
        if fault == "redirect":
            connection.sendall(
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n"
            )
            return True
        if fault == "chunked":
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            connection.sendall(head + chunk + b"0\r\n\r\n")
            return True
        if fault is Fault.BROKEN or body is None:
            status = b"500 No" if fault is Fault.BROKEN else b"404 No"
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: 3\r\n\r\nno\n" % status)
            return True
        if fault is Fault.FLIPPED or (fault is Fault.STALE and not no_cache):
            body = bytes([body[0] ^ 1]) + body[1:]
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        if (part := re.search(r"Range: bytes=(\d+)-(\d+)", head_of_request)) is not None:
            first, last = int(part[1]), min(int(part[2]), len(body) - 1)
            head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n" % (last + 1 - first)
            head += b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (first, last, len(body))
            body = body[first : last + 1]
        if fault is Fault.CUT:
            connection.sendall(head + body[: len(body) // 2])
            return False
        connection.sendall(head + body)
        return fault != "close after"

    def _drip(self, connection, data):
        for at in range(len(data)):
            if self._stop.is_set():
                return False
            connection.sendall(data[at : at + 1])
            time.sleep(0.02)
        return False


@pytest.fixture
def mirror():
    """Makes real mirrors, closed at the end."""
    made = []

    def make():
        made.append(Mirror())
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def http_exchange():
    exchange = HttpExchange(timing=TIMING)
    yield exchange
    exchange.close()


class World:
    """Two mirrors, real ones."""

    def __init__(self, first, second, exchange):
        self.first, self.second, self.exchange = first, second, exchange
        self.hosts = (first.url, second.url)

    def put(self, path, body, *, host=None):
        for mirror in (
            (self.first, self.second) if host is None else ((self.first, self.second)[host],)
        ):
            mirror.documents[path] = body

    def fault(self, host, fault, path=""):
        mirror = (self.first, self.second)[host]
        if fault is Fault.REFUSED:
            mirror.close()
        mirror.faults[path] = fault

    def asked(self, host):
        return list((self.first, self.second)[host].requests)


class MemoryWorld:
    """Two mirrors in memory."""

    hosts = ("http://first", "http://second")

    def __init__(self):
        self.exchange = MemoryExchange({host: {} for host in self.hosts}, stall_s=0.05)

    def put(self, path, body, *, host=None):
        for name in self.hosts if host is None else (self.hosts[host],):
            self.exchange.documents[name][path] = body

    def fault(self, host, fault, path=""):
        self.exchange.faults[self.hosts[host], path] = fault

    def asked(self, host):
        return [
            (path, no_cache)
            for route, path, no_cache in self.exchange.requests
            if route.host == self.hosts[host]
        ]


@pytest.fixture(params=["memory", "http"])
def world(request):
    """Two mirrors behind an exchange: in memory, and over real sockets."""
    if request.param == "memory":
        return MemoryWorld()
    make = request.getfixturevalue("mirror")
    return World(make(), make(), request.getfixturevalue("http_exchange"))
