"""What a peer is, and whom to ask for what."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import InvalidInputError
from cernvm.fs.peers import Peer, default_port, parse_peer
from cernvm.fs.peers.peer import ranked

PEERS = [Peer(f"192.0.2.{n}", 28001) for n in range(1, 11)]
PATHS = [f"data/{n:02x}/{n:038x}" for n in range(200)]


@pytest.mark.parametrize(
    "text", ["", "peer", "1.2.3", "1.2.3.4.5", "0.0.0.0", "224.0.0.251", "255.255.255.255",
             "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:1 ", "1.2.3.4:1:2",
             "1.2.3.4:1\r\nX: y", "01.2.3.4", "::1", "1.2.3.4:\u0661"],
)  # fmt: skip
def test_what_is_no_address_of_one_machine_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_peer(text, 28001)


@given(st.ip_addresses(v=4), st.integers(1, 65535))
def test_a_peer_is_read_as_it_is_written(address, port):
    try:
        peer = Peer(str(address), port)
    except InvalidInputError:
        return
    assert parse_peer(str(peer), 1) == peer


@given(st.text(max_size=40))
def test_a_text_is_a_peer_or_refused(text):
    try:
        peer = parse_peer(text, 28001)
    except InvalidInputError:
        return
    assert 0 < peer.port < 65536


def test_a_repository_has_one_port_for_all():
    assert default_port("sft.cernvm.test") == default_port("sft.cernvm.test")
    assert 28_000 <= default_port("sft.cernvm.test") < 29_000


def test_objects_are_spread_over_peers():
    owners = Counter(ranked(PEERS, path)[0] for path in PATHS)
    assert len(owners) == len(PEERS)
    assert max(owners.values()) < len(PATHS) / len(PEERS) * 2.5


@given(st.permutations(PEERS), st.sampled_from(PATHS))
def test_all_agree_on_an_order_however_they_list_peers(peers, path):
    assert ranked(peers, path) == ranked(PEERS, path)


@given(st.sampled_from(PEERS), st.sampled_from(PATHS))
def test_one_peer_less_changes_nothing_else(gone, path):
    left = [peer for peer in PEERS if peer != gone]
    assert ranked(left, path) == [peer for peer in ranked(PEERS, path) if peer != gone]
