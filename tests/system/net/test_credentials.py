"""What proves that a process may read: over TLS only, to nobody else, and in no log."""

import ipaddress
import logging
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cernvm.core.clock import Deadline
from cernvm.core.errors import HostError, InvalidInputError
from cernvm.net import Chain, ChainFetcher, Credentials, HttpExchange
from cernvm.net.document import Collected

PEM = serialization.Encoding.PEM


def self_signed(name):
    """A key and a certificate that is its own CA, in one text."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(PEM), private


class Protected:
    """Answers any number of requests a connection; keeps what was asked and by whom."""

    def __init__(self, folder, client_cas):
        certificate, key = self_signed("server")
        (folder / "server.pem").write_bytes(certificate + key)
        (folder / "ca.pem").write_bytes(certificate)
        (folder / "clients.pem").write_bytes(client_cas)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.context.load_cert_chain(folder / "server.pem")
        self.context.load_verify_locations(folder / "clients.pem")
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata"
        self.seen = []
        self.connections = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection):
        connection.settimeout(2)
        with suppress(OSError), self.context.wrap_socket(connection, server_side=True) as secure:
            peer = dict(part[0] for part in (secure.getpeercert() or {}).get("subject", ()))
            secure.settimeout(0.05)
            while not self._stop.is_set():
                try:
                    head = secure.recv(4000)
                except TimeoutError:
                    continue
                if not head:
                    return
                self.seen.append((peer.get("commonName", ""), head.decode()))
                secure.sendall(self.answer)

    def close(self):
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


ALICE, BOB = self_signed("alice"), self_signed("bob")


@pytest.fixture
def server(tmp_path, monkeypatch):
    one = Protected(tmp_path, ALICE[0] + BOB[0])
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    yield one
    one.close()


@pytest.fixture
def exchange():
    one = HttpExchange()
    yield one
    one.close()


def get(url, exchange, credentials=None, **more):
    return ChainFetcher(Chain((url,)), exchange, **more).fetch_into(
        "x",
        lambda: Collected(bytes),
        limit_bytes=100,
        deadline=Deadline.after(5),
        credentials=credentials,
    )


def test_a_token_goes_with_its_request_and_no_other(server, exchange):
    get(server.url, exchange, Credentials(bearer_token="s3cret"))
    get(server.url, exchange)

    assert ["Authorization: Bearer s3cret" in head for _, head in server.seen] == [True, False]


def test_each_certificate_has_connections_of_its_own(server, exchange):
    alice = Credentials(certificate_pem=b"".join(ALICE))
    bob = Credentials(certificate_pem=b"".join(BOB))
    for credentials in (alice, None, bob, alice, None, bob):
        assert get(server.url, exchange, credentials) == b"data"

    assert [peer for peer, _ in server.seen] == ["alice", "", "bob"] * 2
    assert server.connections == 3


def test_nothing_secret_is_shown_or_logged(server, exchange, caplog, mirror):
    caplog.set_level(logging.DEBUG)
    credentials = Credentials("s3cret", b"".join(ALICE))
    get(server.url, exchange, credentials)
    gone = mirror()
    gone.close()
    with pytest.raises(HostError) as caught:
        get(gone.url.replace("http", "https"), exchange, credentials)

    shown = f"{credentials!r} {caught.value} {[vars(record) for record in caplog.records]}"
    assert "s3cret" not in shown
    assert "PRIVATE KEY" not in shown


@pytest.mark.parametrize("pem", [b"no certificate", ALICE[0], ALICE[0] + BOB[1]])
def test_a_certificate_that_is_none_is_refused_without_being_shown(server, exchange, pem):
    with pytest.raises(InvalidInputError) as caught:
        get(server.url, exchange, Credentials(certificate_pem=pem))

    assert caught.value.__cause__ is None
    assert server.seen == []


@pytest.mark.parametrize("token", ["geheim\r\nX: y", "ge heim", "geheim\0", "geheim-ä"])
def test_a_token_cannot_add_a_header(token):
    with pytest.raises(InvalidInputError) as caught:
        Credentials(bearer_token=token)

    assert token not in str(caught.value)


def test_credentials_do_not_follow_a_redirect(server, exchange):
    server.answer = (
        b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:9/x\r\nContent-Length: 0\r\n\r\n"
    )

    with pytest.raises(HostError, match="302"):
        get(server.url, exchange, Credentials(bearer_token="s"), follow_redirects=True)
