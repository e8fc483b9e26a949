"""Replicating among peers: what they have comes from them, and whatever else they do costs little."""

import socket
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cernvm.fs.format.objects import MANIFEST_PATH
from cernvm.fs.peers import Peer, PeerSettings, open_peers
from cernvm.fs.replicate.peering import StoreHoldings
from cernvm.fs.replicate.replica import read_replica, write_replica
from cernvm.fs.store.local import LocalStore
from cernvm.net import NetSettings, open_fetcher
from system.crowd import free_port, wait_for_listener
from system.replicas import NAME, bring, read_replica_back
from system.sick import Fault, SickServer

NEAR, HERE = "127.0.0.2", "127.0.0.3"


class Holding:
    """Holdings that remember what they were asked for, and change what they give."""

    def __init__(self, store, change=lambda stored: stored):
        self.under = StoreHoldings(store)
        self.change = change
        self.asked = []

    def put(self, path, stored):
        pass

    def get(self, path):
        self.asked.append(path)
        stored = self.under.get(path)
        return None if stored is None else self.change(stored)


@contextmanager
def answering(place, holdings, secret=None):
    """A peer at an address that has these objects."""
    with ExitStack() as stack:
        servers = open_fetcher(NetSettings("http://127.0.0.1:9"), NAME)
        stack.callback(servers.close)
        settings = PeerSettings(
            mode="list", addresses=(str(place), HERE), listen=str(place), secret=secret
        )
        stack.enter_context(open_peers(settings, NAME, servers, holdings=holdings))
        wait_for_listener(place)
        yield


@pytest.fixture
def near():
    return Peer(NEAR, free_port(NEAR))


def among(replica, *peers, **settings):
    """The replica, told of some peers."""
    chosen = PeerSettings(
        mode="list",
        addresses=tuple(map(str, peers)),
        listen=f"{HERE}:{free_port(HERE)}",
        **{"head_start_s": 1.0, **settings},
    )
    return replace(replica, peers=chosen)


def test_what_a_peer_has_is_not_asked_of_the_upstream(upstream, copy, near):
    holdings = Holding(upstream.store)
    with answering(near, holdings):
        done, store = bring(among(upstream.replica(copy, has_packs=False), near))
    read_replica_back(store, upstream.key, with_packs=False)
    assert done.peer_objects > 30
    assert upstream.server.requests < 8
    assert all(path.startswith("data/") for path in holdings.asked), "root documents never"


def test_what_a_peer_lacks_comes_from_the_upstream(upstream, copy, near, tmp_path):
    bring(upstream.replica(tmp_path / "older"))
    upstream.change(2)
    with answering(near, Holding(LocalStore(tmp_path / "older"))):
        done, store = bring(among(upstream.replica(copy), near))
    assert 0 < done.peer_objects < done.objects
    assert read_replica_back(store, upstream.key)[0].revision == 2


@pytest.mark.parametrize(
    "change", [lambda stored: stored[:-1] + b"!", lambda stored: stored[:9], lambda _: b"x" * 99]
)
def test_a_peer_that_lies_is_left_alone(upstream, copy, near, change):
    holdings = Holding(upstream.store, change)
    with answering(near, holdings):
        done, store = bring(among(upstream.replica(copy, has_packs=False), near))
    read_replica_back(store, upstream.key, with_packs=False)
    assert done.peer_objects == 0
    assert len(holdings.asked) <= 16 < done.objects


def test_a_dead_peer_and_a_silent_one_cost_little(upstream, copy, near):
    dead = Peer("127.0.0.4", free_port("127.0.0.4"))
    with socket.create_server((near.address, near.port)):
        replica = among(upstream.replica(copy), near, dead, head_start_s=0.1)
        done, store = bring(replica)
    read_replica_back(store, upstream.key)
    assert done.peer_objects == 0
    assert done.took_s < 10


def test_who_has_not_the_secret_gets_nothing(upstream, copy, near, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 32)
    secret.chmod(0o600)
    with answering(near, Holding(upstream.store), secret):
        without, _ = bring(among(upstream.replica(copy), near))
        beside = upstream.replica(tmp_path / "beside")
        with_it, _ = bring(among(beside, near, secret=secret))
    assert without.peer_objects == 0
    assert with_it.peer_objects > 0


def test_a_damaged_object_is_given_to_no_peer(upstream):
    victim = next(path for path in upstream.store.paths("data/") if path[-1] not in "CHXKF")
    holdings = StoreHoldings(upstream.store)
    good = upstream.store.get(victim)
    assert holdings.get(victim) == good
    (upstream.store.folder / victim).write_bytes(good + b"!")
    assert holdings.get(victim) is None
    assert holdings.get("data/00/" + "0" * 38) is None


@pytest.mark.parametrize(
    "peers",
    [
        PeerSettings(),
        PeerSettings(mode="zeroconf", listen="127.0.0.3"),
        PeerSettings(mode="list", addresses=(NEAR, f"{HERE}:5"), secret=Path("/etc/secret")),
    ],
)
def test_a_replica_remembers_whom_it_asks(upstream, copy, home, peers):
    known = write_replica(home, replace(upstream.replica(copy), peers=peers))
    assert read_replica(home, NAME) == known
    assert known.peers == peers


@pytest.mark.parametrize("fault", [Fault.FLIP, Fault.WRONG, Fault.SHORT])
def test_of_three_urls_one_may_lie_and_one_be_dead(upstream, copy, fault):
    with SickServer(upstream.store.folder) as liar, SickServer(upstream.store.folder) as dead:
        urls = (dead.url, liar.url, upstream.server.url)
        dead.fall_ill(Fault.DEAD)
        liar.fall_ill(fault)
        done, store = bring(replace(upstream.replica(copy), urls=urls))
    assert done.revision == 1
    assert store.has(MANIFEST_PATH)
    read_replica_back(store, upstream.key)
