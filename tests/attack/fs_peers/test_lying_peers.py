"""A peer that lies, stalls or never ends: readers get the right bytes, soon, and it is left alone."""

import itertools
import socket
import threading
import time

import pytest

from cernvm.core.clock import Deadline
from cernvm.fs.peers import Peer
from cernvm.net import Want
from system.crowd import Whole, free_port, made

HEAD_START_S = 0.2


class Hostile:
    """Listens where a peer should, and says to every question what it was told to."""

    def __init__(self, place, say):
        self.say = say
        self.questions = 0
        self.conversations = 0
        self.listener = socket.create_server((place.address, place.port))
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()
        self.sockets = []

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.conversations += 1
            self.sockets.append(sock)
            self.threads.append(threading.Thread(target=self.converse, args=(sock,)))
            self.threads[-1].start()

    def converse(self, sock):
        try:
            while asked := sock.recv(1 << 16):
                self.questions += asked.count(b"\r\n\r\n")
                for part in self.say(asked):
                    sock.sendall(part)
                    if self.ending.is_set():
                        return
        except OSError:
            pass

    def close(self):
        if self.ending.is_set():
            return
        self.ending.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(10)
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def hostile(crowd):
    """Put a hostile peer at the second place."""
    started = []

    def start(say, number=1):
        started.append(Hostile(crowd.places[number], say))
        return started[-1]

    yield start
    for one in started:
        one.close()


def answer(body, status=b"200 OK"):
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def slowly(parts, every_s=0.05):
    for part in parts:
        yield part
        time.sleep(every_s)


def wrong(size=5000):
    return made(99, size)[1]


LIES = {
    "another object": lambda asked: [answer(wrong())],
    "nothing": lambda asked: [answer(b"")],
    "half of it": lambda asked: [answer(made(0)[1][:2500])],
    "no HTTP": lambda asked: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"],
    "no length": lambda asked: [b"HTTP/1.1 200 OK\r\n\r\n"],
    "chunks": lambda asked: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    "two lengths": lambda asked: [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"
    ],
    "a page that says 404": lambda asked: [answer(b"<html>", b"404 Not Found")],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found_out_and_its_teller_is_banned(crowd, hostile, lie):
    paths = crowd.put(12)
    liar = hostile(LIES[lie])
    crowd.places = crowd.places[:2]
    member = crowd.member(0)
    for path in paths:
        assert member.get(path) == crowd.documents[path]
    assert member.of_servers == 12
    assert member.counts.fetched == 0
    assert (member.counts.lies, member.counts.bans) == (1, 1)
    assert liar.questions == 1


FAULTS = {
    "silence": lambda asked: [],
    "an endless head": lambda asked: itertools.repeat(b"X-Padding: " + 1000 * b"x" + b"\r\n"),
    "a head byte by byte": lambda asked: slowly([b"H", b"T", b"T", b"P"] * 20),
    "a body byte by byte": lambda asked: itertools.chain(
        [b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"], slowly(itertools.repeat(b"x", 200))
    ),
    "an absurd length": lambda asked: [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"],
    "promises": lambda asked: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n", 100),
    "redirects": lambda asked: [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    ],
    "errors": lambda asked: [answer(b"", b"500 Oh")],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_a_reader_a_moment(crowd, hostile, fault):
    paths = crowd.put(10)
    sick = hostile(FAULTS[fault])
    crowd.places = crowd.places[:2]
    member = crowd.member(0, head_start_s=HEAD_START_S)
    began_s = time.monotonic()
    for path in paths:
        assert member.get(path) == crowd.documents[path]
    took_s = time.monotonic() - began_s
    assert sick.questions >= 1
    assert member.counts.fetched == 0
    # what came after its first rest may meet the peer once more
    assert took_s < 4 * HEAD_START_S + 0.5
    assert 1 <= member.counts.bans <= 3


def test_many_objects_asked_together_are_not_held_up_either(crowd, hostile):
    paths = crowd.put(100)
    hostile(lambda asked: slowly([answer(b"", b"404 Not Found")] * 32, every_s=0.1))
    crowd.places = crowd.places[:2]
    member = crowd.member(0, head_start_s=HEAD_START_S)
    wants = [Want(path, lambda path=path: Whole(path), 1 << 20) for path in paths]
    began_s = time.monotonic()
    got = list(member.fetcher.fetch_many(wants, deadline=Deadline.after(20)))
    assert got == [crowd.documents[path] for path in paths]
    assert time.monotonic() - began_s < 8 * HEAD_START_S + 0.5


def test_a_crowd_of_stalling_peers_is_no_worse_than_one(crowd, hostile):
    paths = crowd.put(200)
    crowd.places += [Peer(f"127.0.0.{n}", free_port(f"127.0.0.{n}")) for n in range(20, 40)]
    for number in range(1, len(crowd.places)):
        hostile(lambda asked: slowly([answer(b"", b"404 No")] * 32, every_s=0.15), number=number)
    member = crowd.member(0, head_start_s=HEAD_START_S)
    wants = [Want(path, lambda path=path: Whole(path), 1 << 20) for path in paths]
    began_s = time.monotonic()
    got = list(member.fetcher.fetch_many(wants, deadline=Deadline.after(20)))
    assert got == [crowd.documents[path] for path in paths]
    assert time.monotonic() - began_s < 8 * HEAD_START_S + 1.0
    assert member.counts.fetched == 0


def test_right_objects_among_wrong_ones_do_no_harm(crowd, hostile):
    paths = crowd.put(20)

    def say(asked):
        for line in asked.split(b"\r\n"):
            if line.startswith(b"GET "):
                path = line.split()[1].split(b"/", 3)[3].decode()
                is_first = path in paths[:3]
                yield answer(crowd.documents[path] if is_first else wrong())

    hostile(say)
    crowd.places = crowd.places[:2]
    member = crowd.member(0)
    wants = [Want(path, lambda path=path: Whole(path), 1 << 20) for path in paths]
    got = list(member.fetcher.fetch_many(wants, deadline=Deadline.after(20)))
    assert got == [crowd.documents[path] for path in paths]
    assert member.counts.fetched <= 3
    assert member.counts.lies == 1


def test_nobody_is_sent_to_strangers(crowd, hostile):
    paths = crowd.put(10)
    victim_at = crowd.places[2]
    victim = hostile(lambda asked: [], number=2)
    told = f"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nCvm-Ask: {victim_at}\r\n\r\n".encode()
    hostile(lambda asked: [told] * asked.count(b"\r\n\r\n"))
    crowd.places = crowd.places[:2]
    member = crowd.member(0)
    for path in paths:
        assert member.get(path) == crowd.documents[path]
    assert victim.conversations == 0


def test_peers_that_name_each_other_are_not_asked_in_circles(crowd, hostile):
    paths = crowd.put(5)
    naming = []
    for number, other in ((1, 2), (2, 1)):
        told = f"HTTP/1.1 404 No\r\nContent-Length: 0\r\nCvm-Ask: {crowd.places[other]}\r\n\r\n"
        naming.append(hostile(lambda asked, told=told: [told.encode()], number=number))
    member = crowd.member(0)
    for path in paths:
        assert member.get(path) == crowd.documents[path]
    assert sum(one.questions for one in naming) <= 5 * 3


def test_a_ban_outlasts_good_conduct(crowd, hostile):
    paths = crowd.put(4)
    liar = hostile(lambda asked: [answer(wrong())])
    crowd.places = crowd.places[:2]
    member = crowd.member(0)
    member.get(paths[0])
    liar.close()
    honest = crowd.member(1)
    for path in paths:
        honest.get(path)
        member.get(path)
    assert member.counts.fetched == 0
    assert honest.counts.served == 0
