"""Anybody on a network may announce anything: strangers, victims far away, thousands."""

import socket

import pytest

pytest.importorskip("zeroconf")

from zeroconf import ServiceInfo

from cernvm.fs.peers import Peer
from cernvm.fs.peers.announcing import SERVICE, ZeroconfNeighbours
from cernvm.fs.peers.neighbours import MAX_PEERS
from cernvm.fs.peers.secret import proof

SECRET = b"the secret of this site"
OWN = Peer("127.0.0.1", 28500)


def announcement(address="127.0.0.1", port=28501, number=0, addresses=None, **properties):
    return ServiceInfo(
        SERVICE,
        f"evil{number}.{SERVICE}",
        port=port,
        addresses=[socket.inet_aton(one) for one in addresses or [address]],
        properties={"repository": "a.test", **properties},
        server=f"evil{number}.local.",
    )


class Told:
    """What a network says of a name."""

    def __init__(self, info):
        self.info = info

    def get_service_info(self, type_, name, timeout):
        return self.info


@pytest.fixture
def near(request):
    made = []

    def make(secret=None):
        made.append(ZeroconfNeighbours("a.test", OWN, secret))
        return made[-1]

    yield make
    for one in made:
        one.close()


def believed(neighbours, info):
    neighbours.add_service(Told(info), SERVICE, info.name)
    return neighbours.near()


def test_an_honest_announcement_is_believed(near):
    assert believed(near(), announcement()) == (Peer("127.0.0.1", 28501),)


@pytest.mark.parametrize(
    "info",
    [
        announcement("8.8.8.8"),  # codespell:ignore
        announcement("255.255.255.255"),
        announcement("224.0.0.251"),
        announcement("0.0.0.0"),
        announcement(port=22),
        announcement(port=0),
        announcement(repository="b.test"),
        announcement(repository=b"\xff\xfe"),
        announcement(addresses=["127.0.0.1", "127.0.0.2"]),
        announcement(port=OWN.port),
    ],
    ids=str,
)
def test_what_cannot_be_a_peer_nearby_is_not_believed(near, info):
    assert believed(near(), info) == ()


def test_without_its_proof_nothing_is_believed_where_there_is_a_secret(near):
    said = proof(SECRET, "announce", "a.test", "127.0.0.1:28501")
    for info in (
        announcement(),
        announcement(proof="x"),
        announcement(proof=b"\xff" * 64),
        announcement(port=28502, proof=said),
    ):
        assert believed(near(SECRET), info) == ()
    assert believed(near(SECRET), announcement(proof=said)) == (Peer("127.0.0.1", 28501),)


def test_thousands_of_announcements_are_not_remembered(near):
    neighbours = near()
    for number in range(1000):
        found = believed(neighbours, announcement(port=20_000 + number, number=number))
    assert len(found) == MAX_PEERS
