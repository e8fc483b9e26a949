"""Who is in a hurry and who makes way, over real connections."""

import threading
import time

import pytest

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError
from cernvm.net import Chain, ChainFetcher, Fault, HttpExchange, Timing, Urgency, fetch
from cernvm.net.document import Collected
from cernvm.net.lanes import Lanes
from cernvm.net.terms import PLAIN, Terms

AHEAD = Terms(Urgency.BACKGROUND)


@pytest.fixture
def exchange():
    one = HttpExchange(timing=Timing(0.5, 1.0, 64), max_connections=2, max_background=4)
    yield one
    one.close()


def ahead(fetcher, path, limit_bytes=1000):
    try:
        fetcher.fetch_into(
            path,
            lambda: Collected(bytes),
            limit_bytes=limit_bytes,
            deadline=Deadline.after(3),
            urgency=Urgency.BACKGROUND,
        )
    except CvmError:
        pass


def test_nobody_who_waits_is_held_up_by_what_is_fetched_ahead(mirror, exchange):
    host = mirror()
    host.documents["x"] = b"content"
    host.faults["slow"] = Fault.SILENT
    fetcher = ChainFetcher(Chain((host.url,)), exchange)
    threads = [threading.Thread(target=ahead, args=(fetcher, "slow")) for _ in range(30)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)

    started = time.monotonic()
    got = fetch(fetcher, "x", limit_bytes=100, deadline=Deadline.after(3), accept=bytes)
    took_s = time.monotonic() - started
    for thread in threads:
        thread.join(10)

    assert got == b"content"
    assert took_s < 0.3


def test_what_is_fetched_ahead_begins_only_when_nobody_waits_for_long():
    lanes = Lanes(2, 4)
    begun = threading.Event()

    def later():
        with lanes.lane(AHEAD, Deadline.after(5)) as is_mine:
            assert is_mine
            begun.set()

    with lanes.lane(PLAIN, Deadline.after(5)):
        time.sleep(0.1)  # longer than any link explains
        thread = threading.Thread(target=later)
        thread.start()
        assert not begun.wait(0.3)
    thread.join(5)

    assert begun.is_set()


def test_a_body_that_comes_ahead_is_held_back_for_a_while_and_no_longer():
    lanes = Lanes(2, 4)
    with lanes.lane(PLAIN, Deadline.after(5)):
        time.sleep(0.1)
        started = time.monotonic()
        lanes.make_way(Deadline.after(60))
        waited_s = time.monotonic() - started

    assert 0.3 < waited_s < 2
    started = time.monotonic()
    lanes.make_way(Deadline.after(60))
    assert time.monotonic() - started < 0.1


def test_who_waits_for_a_lane_waits_until_the_deadline_only():
    lanes = Lanes(1, 1)
    for terms in (PLAIN, AHEAD):
        with lanes.lane(terms, Deadline.after(1)) as first:
            started = time.monotonic()
            with lanes.lane(terms, Deadline.after(0.2)) as second:
                assert (first, second) == (True, False)
            assert time.monotonic() - started < 1


def fail_in_a_lane(lanes, terms):
    with lanes.lane(terms, Deadline.after(1)) as is_mine:
        assert is_mine
        raise ValueError


@pytest.mark.parametrize("terms", [PLAIN, AHEAD])
def test_every_lane_comes_back(terms):
    lanes = Lanes(2, 2)
    for _ in range(10):
        with pytest.raises(ValueError):
            fail_in_a_lane(lanes, terms)


def test_the_link_is_measured_by_what_is_fetched(mirror, exchange):
    host = mirror()
    host.documents["x"] = bytes(50_000)
    fetcher = ChainFetcher(Chain((host.url,)), exchange)
    assert fetcher.link.rtt_s == 0

    fetch(fetcher, "x", limit_bytes=50_000, deadline=Deadline.after(3), accept=len)
    assert fetcher.link.bytes_per_s == 0, "one reader does not fill a link"
    end = time.monotonic() + 10
    while not fetcher.link.bytes_per_s and time.monotonic() < end:
        ahead(fetcher, "x", limit_bytes=50_000)

    assert 0 < fetcher.link.rtt_s < 0.1
    assert fetcher.link.bytes_per_s > 100_000


def measured(*, rtt_s, bytes_per_s, size_bytes):
    lanes = Lanes(2, 4)
    lanes.waited(rtt_s)
    begun_s = time.monotonic()
    end, sent_bytes = begun_s + 0.6, 0
    with lanes.lane(AHEAD, Deadline.after(5)):
        lanes.received(0)
        while (now_s := time.monotonic()) < end:
            due_bytes = int((now_s - begun_s) * bytes_per_s)
            lanes.received(due_bytes - sent_bytes)
            sent_bytes = due_bytes
            time.sleep(0.01)
    for _ in range(50):
        lanes.finished(AHEAD, size_bytes)
    return lanes


def test_as_many_requests_go_ahead_of_their_answers_as_fill_the_link():
    small = measured(rtt_s=0.02, bytes_per_s=10_000_000, size_bytes=12_000)
    large = measured(rtt_s=0.02, bytes_per_s=10_000_000, size_bytes=2_000_000)

    assert 8 <= small.depth() <= 24  # 200 kB hold 17 of them
    assert large.depth() == 2


def test_what_is_fetched_ahead_leaves_a_connection_to_who_waits(mirror, exchange):
    host = mirror()
    host.documents["x"] = b"content"
    fetcher = ChainFetcher(Chain((host.url,)), exchange)
    fetch(fetcher, "x", limit_bytes=100, deadline=Deadline.after(3), accept=bytes)
    host.faults["slow"] = Fault.SILENT
    thread = threading.Thread(target=ahead, args=(fetcher, "slow"))
    thread.start()
    time.sleep(0.1)
    connections = host.connections

    fetch(fetcher, "x", limit_bytes=100, deadline=Deadline.after(3), accept=bytes)
    thread.join(5)

    assert host.connections == connections
