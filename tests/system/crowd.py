"""Clients among their peers on addresses of the loopback, over servers in memory that count, for the tests of
several kinds."""

import hashlib
import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from cernvm.core.clock import Deadline
from cernvm.core.errors import DigestMismatchError
from cernvm.fs.peers import ListedNeighbours, Peer, PeerSettings, open_peers
from cernvm.net import ChainFetcher, MemoryExchange, Rules, make_chain, parse_hosts

NAME = "crowd.cernvm.test"
HOST = f"http://s1/cvmfs/{NAME}"


def made(seed, size=5000):
    """An object: its path and its stored bytes."""
    stored = random.Random(seed).randbytes(size)
    digest = hashlib.sha1(stored).hexdigest()
    return f"data/{digest[:2]}/{digest[2:]}", stored


class Whole:
    """A sink that accepts the object that a path names, as the reader's do."""

    def __init__(self, path):
        self.path, self.parts = path, []

    def write(self, data):
        self.parts.append(bytes(data))

    def finish(self):
        stored = b"".join(self.parts)
        got = hashlib.sha1(stored).hexdigest()
        if self.path.startswith("data/") and self.path[5:].replace("/", "") != got:
            raise DigestMismatchError(expected=self.path, got=got, source=self.path)
        return stored

    def discard(self):
        pass


def free_port(address="127.0.0.1"):
    with socket.socket() as sock:
        sock.bind((address, 0))
        return sock.getsockname()[1]


@dataclass
class Member:
    """One client."""

    peer: Peer
    fetcher: object
    peers: object
    exchange: MemoryExchange

    def get(self, path, *, limit_bytes=1 << 24, **options):
        return self.fetcher.fetch_into(
            path,
            lambda: Whole(path),
            limit_bytes=limit_bytes,
            deadline=Deadline.after(10),
            **options,
        )

    @property
    def counts(self):
        return self.peers.counter.now

    @property
    def of_servers(self):
        """How many requests went to servers."""
        return len(self.exchange.requests)


class Crowd:
    """Makes clients that know each other; `documents` is what the servers have."""

    def __init__(self, folder, count=3):
        self.folder = folder
        self.documents = {}
        self.stack = ExitStack()
        self.places = [
            Peer(f"127.0.0.{n + 2}", free_port(f"127.0.0.{n + 2}")) for n in range(count)
        ]

    def put(self, count, size=5000):
        """Let the servers have some objects; their paths."""
        objects = dict(made(seed, size) for seed in range(count))
        self.documents |= objects
        return list(objects)

    def member(self, number, *, name=NAME, near=None, **settings):
        """A client that answers at once."""
        own = self.places[number]
        exchange = MemoryExchange({HOST: self.documents})
        fetcher = ChainFetcher(
            make_chain(parse_hosts(HOST, name), "DIRECT"), exchange, rules=Rules()
        )
        chosen = PeerSettings(
            mode="list",
            addresses=tuple(map(str, self.places)),
            listen=str(own),
            **{"head_start_s": 2.0, **settings},
        )
        neighbours = None if near is None else ListedNeighbours(near, own)
        peers = self.stack.enter_context(
            open_peers(chosen, name, fetcher, self.folder / f"kept-{number}", neighbours=neighbours)
        )
        wait_for_listener(own)
        return Member(own, peers.fetcher, peers, exchange)

    def close(self):
        self.stack.close()


def wait_for_listener(peer, within_s=10.0):
    deadline = Deadline.after(within_s)
    while not deadline.has_passed:
        try:
            socket.create_connection((peer.address, peer.port), 1).close()
        except OSError:
            deadline.clock.sleep(0.01)
        else:
            return
    raise AssertionError(f"nobody listens on {peer}")
