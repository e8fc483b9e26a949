"""The real exchange beyond the contract: kept-alive connections, proxies, TLS, names."""

import ipaddress
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cernvm.core.clock import Deadline
from cernvm.core.errors import HostError
from cernvm.fs.format.signature import create_certificate, create_private_key
from cernvm.net import Chain, ChainFetcher, HttpExchange, fetch

BODY = b"content" * 1000


@pytest.fixture
def exchange():
    one = HttpExchange()
    yield one
    one.close()


def get(fetcher, path="x", seconds=5.0):
    deadline = Deadline.after(seconds)
    return fetch(fetcher, path, limit_bytes=100_000, deadline=deadline, accept=bytes)


def test_one_connection_serves_many_requests(mirror, exchange):
    host = mirror()
    host.documents["x"] = BODY
    fetcher = ChainFetcher(Chain((host.url,)), exchange)

    assert [get(fetcher) for _ in range(20)] == [BODY] * 20
    assert host.connections == 1


@pytest.mark.parametrize("fault", ["chunked", "close after"])
def test_other_ways_to_frame_a_body_are_understood(mirror, exchange, fault):
    host = mirror()
    host.documents["x"] = BODY
    host.faults["x"] = fault
    fetcher = ChainFetcher(Chain((host.url,)), exchange)

    assert [get(fetcher) for _ in range(3)] == [BODY] * 3


def test_an_idle_connection_that_the_server_closed_is_replaced(mirror, exchange):
    host = mirror()
    host.documents["x"] = BODY
    host.faults["x"] = "close after"
    told = []
    fetcher = ChainFetcher(Chain((host.url,)), exchange)
    for _ in range(5):
        fetch(
            fetcher,
            "x",
            limit_bytes=100_000,
            deadline=Deadline.after(5),
            accept=bytes,
            on_attempt=told.append,
        )

    assert sum(bool(attempt.error) for attempt in told) == 0


def test_a_proxy_is_asked_for_the_whole_url(mirror, exchange):
    proxy = mirror()
    proxy.documents["http://127.0.0.1:9/repo/x"] = BODY
    fetcher = ChainFetcher(Chain(("http://127.0.0.1:9/repo",), ((proxy.url,),)), exchange)

    assert get(fetcher) == BODY


def test_a_dead_proxy_is_passed_by(mirror, exchange):
    dead, host = mirror(), mirror()
    dead.close()
    host.documents["x"] = BODY
    fetcher = ChainFetcher(Chain((host.url,), ((dead.url,), ("DIRECT",))), exchange)

    assert get(fetcher) == BODY
    assert fetcher.proxy == "DIRECT"


@pytest.fixture
def self_signed(tmp_path):
    """A TLS server whose certificate nobody vouches for; gives its port."""
    key = create_private_key()
    pem = tmp_path / "server.pem"
    pem.write_bytes(key + create_certificate(key, name="127.0.0.1", now=datetime.now(UTC)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with tls_server(context) as port:
        yield port


@contextmanager
def tls_server(context):
    """Answers one request a connection; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(2)
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1000)
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
                for at in range(0, len(BODY), 1000):
                    secure.sendall(BODY[at : at + 1000])

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_tls_to_a_server_without_a_known_certificate_is_refused(self_signed, exchange):
    fetcher = ChainFetcher(Chain((f"https://127.0.0.1:{self_signed}",)), exchange)

    with pytest.raises(HostError, match="secure connection"):
        get(fetcher)


@pytest.fixture
def known_tls_server(tmp_path, monkeypatch):
    """A TLS server that the system's CAs vouch for; gives its port."""
    pem = tmp_path / "known.pem"
    pem.write_bytes(certified(ipaddress.ip_address("127.0.0.1")))
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with tls_server(context) as port:
        yield port


def certified(address):
    """A key and a certificate for `address` that is its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    return certificate.public_bytes(encoding) + key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_tls_to_a_server_with_a_known_certificate_is_read(known_tls_server, exchange):
    fetcher = ChainFetcher(Chain((f"https://127.0.0.1:{known_tls_server}",)), exchange)

    assert [get(fetcher) for _ in range(3)] == [BODY] * 3


def test_no_more_connections_than_allowed(mirror):
    host = mirror()
    host.documents["x"] = BODY
    exchange = HttpExchange(max_connections=3)
    fetcher = ChainFetcher(Chain((host.url,)), exchange)
    threads = [threading.Thread(target=get, args=(fetcher,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    exchange.close()

    assert host.connections <= 3


def test_a_name_that_cannot_be_looked_up_is_a_host_error(exchange):
    fetcher = ChainFetcher(Chain((f"http://{'x' * 70}",)), exchange)

    with pytest.raises(HostError):
        get(fetcher)


def test_a_name_is_looked_up(mirror, exchange):
    host = mirror()
    host.documents["x"] = BODY
    fetcher = ChainFetcher(Chain((host.url.replace("127.0.0.1", "localhost"),)), exchange)

    assert get(fetcher) == BODY


@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_a_server_that_closes_after_each_answer_serves_every_request(exchange, protocol):
    class Closing(BaseHTTPRequestHandler):
        protocol_version = protocol

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"x" * 100_000)
            self.close_connection = True

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Closing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            fetcher = ChainFetcher(Chain((f"http://127.0.0.1:{server.server_port}",)), exchange)
            sizes = [len(get(fetcher)) for _ in range(20)]
        finally:
            server.shutdown()
            thread.join()

    assert sizes == [100_000] * 20
    assert fetcher.traffic.failures == 0
