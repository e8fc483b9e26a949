"""Whoever connects to a client: gets objects of its repository, in fair amounts, and nothing else."""

import contextlib
import os
import socket
import time

import pytest

from cernvm.fs.peers import Peer, serving
from cernvm.fs.peers.messages import format_question
from system.crowd import NAME, made


class Stranger:
    """A connection without any manners."""

    def __init__(self, peer, source="127.0.0.1"):
        self.sock = socket.create_connection((peer.address, peer.port), 5, (source, 0))
        self.sock.settimeout(5)
        self.waiting = b""

    def ask(self, text):
        self.sock.sendall(text if isinstance(text, bytes) else text.encode())
        return self.hear()

    def hear(self):
        """One answer: status, head, body; status 0 when the connection ends."""
        while b"\r\n\r\n" not in self.waiting:
            if not self.receive():
                return 0, b"", b""
        head, _, self.waiting = self.waiting.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(self.waiting) < length and self.receive():
            pass
        body, self.waiting = self.waiting[:length], self.waiting[length:]
        return int(head.split()[1]), head, body

    def receive(self):
        try:
            received = self.sock.recv(1 << 16)
        except ConnectionResetError:
            return False
        self.waiting += received
        return bool(received)

    def get(self, path, *lines):
        return self.ask("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "", ""]))


@pytest.fixture
def strangers():
    with contextlib.ExitStack() as stack:

        def come(peer, source="127.0.0.1"):
            made = Stranger(peer, source)
            stack.callback(made.sock.close)
            return made

        yield come


@pytest.fixture
def one(crowd):
    """A client that has an object, whose path it has as well."""
    (path,) = crowd.put(1)
    member = crowd.member(0)
    member.get(path)
    member.path = path
    return member


def test_what_peers_have_may_be_asked_for(one, crowd, strangers):
    assert strangers(one.peer).get(f"/cvmfs/{NAME}/{one.path}")[::2] == (
        200,
        crowd.documents[one.path],
    )


PATHS = [
    "/",
    "/cvmfs/",
    f"/cvmfs/{NAME}",
    f"/cvmfs/{NAME}/",
    f"/cvmfs/{NAME}/data/",
    f"/cvmfs/{NAME}/.cvmfspublished",
    f"/cvmfs/{NAME}/data/../../../../../etc/passwd",
    f"/cvmfs/{NAME}/data/00/..%2f..%2f..%2fetc%2fpasswd",
    f"/cvmfs/{NAME}/data/00/../00/" + 38 * "0",
    f"/cvmfs/{NAME}//data/00/" + 38 * "0",
    f"/cvmfs/{NAME}/data/00/" + 38 * "0" + "Q",
    f"/cvmfs/{NAME}/data/00/" + 38 * "0" + "-md5",
    f"/cvmfs/{NAME}/data/00/" + 38 * "g",
    "/etc/passwd",
    "//etc/passwd",
    "/cvmfs/other.cernvm.test/data/00/" + 38 * "0",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_other_path_leads_anywhere(one, strangers, path):
    status, _, body = strangers(one.peer).get(path)
    assert (status, body) == (404, b"")


def test_an_object_of_another_repository_is_not_given(one, strangers):
    assert strangers(one.peer).get(f"/cvmfs/other.cernvm.test/{one.path}")[0] == 404


QUESTIONS = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "another method": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a body": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a bare line's end": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "a zero": b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "another port than a number": b"GET / HTTP/1.1\r\nHost: x\r\nCvm-Peer: a\r\n\r\n",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_no_plain_get_ends_the_conversation(one, strangers, question):
    stranger = strangers(one.peer)
    assert stranger.ask(QUESTIONS[question])[0] == 400
    assert stranger.hear()[0] == 0


def test_a_question_without_an_end_is_cut_off(one, strangers):
    stranger = strangers(one.peer)
    with contextlib.suppress(ConnectionError):
        stranger.ask(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000)
    assert stranger.hear()[0] == 0


def test_a_question_byte_by_byte_is_cut_off(one, strangers, monkeypatch):
    monkeypatch.setattr(serving, "QUESTION_S", 0.3)
    stranger = strangers(one.peer)
    began_s = time.monotonic()
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            stranger.sock.sendall(b"G")
            time.sleep(0.02)
    assert stranger.hear()[0] == 0
    assert time.monotonic() - began_s < 4


def test_who_does_not_take_an_answer_is_cut_off(crowd, strangers, monkeypatch):
    monkeypatch.setattr(serving, "SEND_STALL_S", 0.3)
    crowd.documents |= dict([made(1, 15_000_000)])
    (path,) = crowd.documents
    member = crowd.member(0)
    member.get(path)
    stranger = strangers(member.peer)
    stranger.sock.sendall(f"GET /cvmfs/{NAME}/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    time.sleep(1.5)
    _, _, body = stranger.hear()
    assert 0 < len(body) < 15_000_000


def test_a_flood_of_connections_takes_no_more_than_a_share(crowd, strangers):
    (path,) = crowd.put(1)
    member, other = crowd.member(0), crowd.member(1)
    member.get(path)
    threads = len(os.listdir("/proc/self/task"))
    flood = [strangers(member.peer) for _ in range(200)]
    answers = [stranger.hear()[0] for stranger in flood[20:]]
    assert set(answers) <= {503, 0}
    assert len(os.listdir("/proc/self/task")) <= threads + 5
    assert other.get(path) == crowd.documents[path]
    assert other.of_servers == 0


def test_floods_from_many_addresses_leave_readers_alone(crowd, strangers):
    paths = crowd.put(20)
    member, other = crowd.member(0, max_connections=8), crowd.member(1)
    for number in range(40):
        strangers(member.peer, f"127.0.1.{number + 1}")
    for path in paths:
        assert other.get(path) == crowd.documents[path]
        assert member.get(path) == crowd.documents[path]
    assert other.counts.lies == 0


def test_more_than_the_limit_is_not_sent(crowd, strangers):
    paths = crowd.put(20, size=200_000)
    member = crowd.member(0, sent_bytes_per_s=1_000_000)
    for path in paths:
        member.get(path)
    stranger = strangers(member.peer)
    began_s = time.monotonic()
    sent_bytes = 0
    while time.monotonic() - began_s < 1.5:
        for path in paths:
            status, _, body = stranger.get(f"/cvmfs/{NAME}/{path}")
            assert status in (200, 503)
            sent_bytes += len(body)
    assert sent_bytes <= 1_000_000 * (time.monotonic() - began_s + 1)


def test_a_link_in_the_folder_leads_nowhere(crowd, one, strangers, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(crowd.documents[one.path])
    (kept,) = (p for p in (crowd.folder / "kept-0").rglob("*") if p.is_file())
    kept.unlink()
    kept.symlink_to(secret)
    assert strangers(one.peer).get(f"/cvmfs/{NAME}/{one.path}")[0] == 404


def test_a_stranger_is_named_to_nobody(crowd, strangers):
    path, _ = made(77)
    member = crowd.member(0)
    for line in ("Cvm-Peer: 12345", f"Cvm-Peer: {crowd.places[1].port}"):
        strangers(member.peer).get(f"/cvmfs/{NAME}/{path}", line)
    _, head, _ = strangers(member.peer).get(f"/cvmfs/{NAME}/{path}")
    assert b"cvm-ask" not in head.lower()


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text("the secret of this site alone\n")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("trick", ["none", "wrong", "old", "of another peer", "of another object"])
def test_without_the_secret_nothing_is_told(crowd, strangers, secret, trick):
    (path,) = crowd.put(1)
    member = crowd.member(0, secret=secret)
    member.get(path)
    right = b"the secret of this site alone"
    peer, key, now_s = member.peer, right, time.time()
    if trick == "none":
        key = None
    elif trick == "wrong":
        key = b"another secret, as long as it"
    elif trick == "old":
        now_s -= 3600
    question = format_question(NAME, path, peer, secret=key, now_s=now_s)
    if trick == "of another peer":
        other = Peer("127.0.0.9", peer.port)
        question = format_question(NAME, path, other, secret=key, now_s=now_s)
        question = question.replace(str(other).encode(), str(peer).encode())
    elif trick == "of another object":
        other = made(5)[0]
        question = format_question(NAME, other, peer, secret=key, now_s=now_s)
        question = question.replace(other.encode(), path.encode())
    assert strangers(peer).ask(question)[::2] == (403, b"")
    fine = format_question(NAME, path, peer, secret=right, now_s=time.time())
    assert strangers(peer).ask(fine)[0] == 200
