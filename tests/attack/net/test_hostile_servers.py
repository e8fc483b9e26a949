"""What a server may do to hold a reader up, or to fill its memory."""

import socket
import threading
import time
from contextlib import closing

import pytest

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError, HostError
from cernvm.net import Chain, ChainFetcher, HttpExchange, Rules, Timing, fetch
from cernvm.net.connection import connection_for_one

BODY = b"content" * 1000
TIMING = Timing(connect_s=0.5, stall_s=0.6, slow_bytes_per_s=1024)


@pytest.fixture
def get(mirror):
    exchange = HttpExchange(timing=TIMING)

    def run(*faults, seconds=5.0, limit_bytes=100_000):
        hosts = []
        for fault in faults:
            one = mirror()
            one.documents["x"] = BODY
            one.faults["x"] = fault
            hosts.append(one.url)
        fetcher = ChainFetcher(Chain(tuple(hosts)), exchange, rules=Rules(backoff_first_s=0.1))
        deadline = Deadline.after(seconds)
        return fetch(fetcher, "x", limit_bytes=limit_bytes, deadline=deadline, accept=bytes)

    yield run
    exchange.close()


HOLDING = ["drip headers", "drip body"]
LYING = ["reset", "garbage", "endless headers", "oversize without length", "redirect"]


@pytest.mark.parametrize("fault", HOLDING)
def test_one_byte_now_and_then_does_not_hold_a_reader(get, fault):
    started = time.monotonic()

    with pytest.raises(DeadlineError):
        get(fault, seconds=1.5)
    assert time.monotonic() - started < 2.5


@pytest.mark.parametrize("fault", HOLDING + LYING)
def test_an_honest_host_behind_a_hostile_one_is_reached(get, fault):
    assert get(fault, None, seconds=8) == BODY


@pytest.mark.parametrize("fault", LYING)
def test_a_lie_is_a_host_error(get, fault):
    with pytest.raises(HostError):
        get(fault)


def test_an_address_where_nobody_listens_is_named(mirror):
    gone = mirror()
    gone.close()
    fetcher = ChainFetcher(Chain((gone.url,)), HttpExchange(timing=TIMING))

    with pytest.raises(HostError, match=f"{gone.port}/x: connection refused"):
        fetch(fetcher, "x", limit_bytes=1, deadline=Deadline.after(3), accept=bytes)


@pytest.fixture
def sipping():
    """Takes a little of what it is sent now and then; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def sip():
        connection, _ = listener.accept()
        with connection:
            while not stop.wait(0.05):
                connection.recv(1 << 20)

    thread = threading.Thread(target=sip)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop.set()
    thread.join(5)
    listener.close()


def test_a_host_that_takes_little_at_a_time_does_not_hold_a_sender(sipping):
    timing = Timing(connect_s=0.5, stall_s=0.6, slow_bytes_per_s=0)
    started = time.monotonic()

    with (
        closing(connection_for_one(sipping, timing, Deadline.after(1.5))) as connection,
        pytest.raises(TimeoutError),
    ):
        connection.request("PUT", "/x", body=[bytes(100_000_000)])
    assert 1.4 < time.monotonic() - started < 2.5
