"""What every way to know one's neighbours keeps."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cernvm.fs.peers import ListedNeighbours, MemoryNeighbours, Peer
from system.crowd import free_port

OWN, NEAR = Peer("127.0.0.1", free_port()), Peer("127.0.0.1", free_port())


def listed():
    return ListedNeighbours([OWN, NEAR, NEAR], OWN), ListedNeighbours([OWN, NEAR], NEAR)


def in_memory():
    meeting = set()
    return MemoryNeighbours(meeting), MemoryNeighbours(meeting)


def announced():
    pytest.importorskip("zeroconf")
    from cernvm.fs.peers.announcing import ZeroconfNeighbours

    return ZeroconfNeighbours("a.test", OWN), ZeroconfNeighbours("a.test", NEAR)


@pytest.fixture(params=[listed, in_memory, announced])
def both(request):
    found = request.param()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one, own: one.announce(own), found, (OWN, NEAR)))
    yield found
    for one in found:
        one.close()


def eventually(condition, within_s=10.0):
    end_s = time.monotonic() + within_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.02)
    return condition()


def test_neighbours_see_each_other_and_not_themselves(both):
    assert eventually(lambda: both[0].near() == (NEAR,) and both[1].near() == (OWN,))


def test_closing_twice_is_closing(both):
    both[0].close()
    both[0].close()


def test_who_has_left_is_no_longer_near_where_that_can_be_known(both):
    assert eventually(lambda: both[0].near() == (NEAR,))
    both[1].close()
    if not isinstance(both[0], ListedNeighbours):
        assert eventually(lambda: both[0].near() == ())
