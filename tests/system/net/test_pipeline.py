"""Many documents over one connection: from servers that understand it, and from such as do not."""

import threading
import time
import urllib.request

import pytest

from cernvm.core.clock import Deadline
from cernvm.core.errors import CvmError, DeadlineError, DigestMismatchError, HostError
from cernvm.net import Chain, ChainFetcher, Fault, HttpExchange, Timing, Want, fetch
from cernvm.net.document import Collected

from .conftest import run_nginx

COUNT = 200
BODIES = [bytes([number]) * (number * 97 % 5000) for number in range(COUNT)]
TIMING = Timing(connect_s=0.5, stall_s=0.6, slow_bytes_per_s=64)


@pytest.fixture
def exchange():
    one = HttpExchange(timing=TIMING)
    yield one
    one.close()


def wants(count=COUNT, accept=bytes, limit_bytes=10_000):
    return [Want(f"d{number}", lambda: Collected(accept), limit_bytes) for number in range(count)]


def many(url, exchange, asked, seconds=20.0):
    fetcher = ChainFetcher(Chain((url,)), exchange)
    return list(fetcher.fetch_many(asked, deadline=Deadline.after(seconds)))


@pytest.fixture
def host(mirror):
    one = mirror()
    for number, body in enumerate(BODIES):
        one.documents[f"d{number}"] = body
    return one


@pytest.fixture
def nginx(tmp_path):
    (tmp_path / "www").mkdir()
    for number, body in enumerate(BODIES):
        (tmp_path / "www" / f"d{number}").write_bytes(body)
    with run_nginx(tmp_path, settings="keepalive_requests 30;") as server:
        yield server


def test_a_real_server_that_ends_connections_after_some_requests(nginx, exchange):
    assert many(nginx, exchange, wants()) == BODIES


def test_one_round_trip_serves_many(nginx, exchange):
    many(nginx, exchange, wants(2))
    fetcher = ChainFetcher(Chain((nginx,)), exchange)

    list(fetcher.fetch_many(wants(25), deadline=Deadline.after(5)))

    assert fetcher.traffic.requests == 25


def test_what_is_missing_is_told_in_its_place(host, exchange):
    del host.documents["d7"]

    got = many(host.url, exchange, wants())

    assert isinstance(got[7], HostError)
    assert got[7].status == 404
    assert got[:7] + got[8:] == BODIES[:7] + BODIES[8:]


@pytest.mark.parametrize("fault", ["close after", "chunked"])
def test_a_server_with_other_ways_serves_everything(host, exchange, fault):
    host.faults[""] = fault

    assert many(host.url, exchange, wants()) == BODIES


def test_a_server_that_ends_a_connection_without_a_word_is_asked_one_by_one(host, exchange):
    host.faults["d50"] = "close after"

    assert many(host.url, exchange, wants()) == BODIES
    connections = host.connections
    assert many(host.url, exchange, wants()) == BODIES
    assert host.connections <= connections + 2


def test_a_server_that_forgets_what_it_was_asked_together_is_asked_one_by_one(host, exchange):
    host.faults["fault"] = "forgets what follows"

    assert many(host.url, exchange, wants()) == BODIES
    started = time.monotonic()
    assert many(host.url, exchange, wants()) == BODIES
    assert time.monotonic() - started < TIMING.stall_s


def test_a_body_that_is_cut_costs_itself_only(host, exchange):
    host.faults["d20"] = Fault.CUT

    got = many(host.url, exchange, wants())

    assert isinstance(got[20], HostError)
    assert got[:20] + got[21:] == BODIES[:20] + BODIES[21:]


def test_a_body_that_is_refused_costs_itself_only(host, exchange):
    def accept(data):
        if data == BODIES[33]:
            raise DigestMismatchError(expected="a", got="b", source="d33")
        return data

    got = many(host.url, exchange, wants(accept=accept))

    assert isinstance(got[33], DigestMismatchError)
    assert got[:33] + got[34:] == BODIES[:33] + BODIES[34:]


def test_a_body_over_its_limit_is_not_taken_and_the_next_ones_are(host, exchange):
    host.documents["d5"] = bytes(100_000)

    got = many(host.url, exchange, wants())

    assert isinstance(got[5], HostError)
    assert got[6:] == BODIES[6:]


def test_garbage_between_answers_is_an_error_and_ends(host, exchange):
    host.faults["d40"] = "garbage"

    got = many(host.url, exchange, wants())

    assert got[:40] == BODIES[:40]
    assert all(isinstance(one, CvmError) for one in got[40:])


def test_silence_ends_all_that_is_left_within_its_time(host, exchange):
    host.faults["d10"] = Fault.SILENT
    started = time.monotonic()

    got = many(host.url, exchange, wants(), seconds=5)

    assert time.monotonic() - started < 5
    assert got[:10] == BODIES[:10]
    assert all(isinstance(one, DeadlineError) for one in got[10:])


def test_nobody_there_is_told_for_each(mirror, exchange):
    gone = mirror()
    gone.close()

    assert all(isinstance(one, HostError) for one in many(gone.url, exchange, wants(5)))


def test_many_kept_connections_that_have_all_ended_are_no_failure(host, exchange):
    fetcher = ChainFetcher(Chain((host.url,)), exchange)
    threads = [
        threading.Thread(
            target=fetch,
            args=(fetcher, "d1"),
            kwargs={"limit_bytes": 10_000, "deadline": Deadline.after(5), "accept": bytes},
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    host.faults[""] = "close after"
    many(host.url, exchange, wants(20))

    assert many(host.url, exchange, wants()) == BODIES


def test_who_stops_early_leaves_no_request_in_the_way_of_the_next(host, exchange):
    fetcher = ChainFetcher(Chain((host.url,)), exchange)
    for _ in range(3):
        ahead = fetcher.fetch_many(wants(), deadline=Deadline.after(5))
        assert [next(ahead) for _ in range(10)] == BODIES[:10]
        ahead.close()

    assert many(host.url, exchange, wants()) == BODIES


def test_who_takes_the_last_answer_and_asks_no_further_keeps_the_connection(tmp_path, exchange):
    with run_counting_nginx(tmp_path) as server:
        fetcher = ChainFetcher(Chain((server,)), exchange)
        before = connections_so_far(server)
        for _ in range(20):
            ahead = fetcher.fetch_many(wants(5), deadline=Deadline.after(5))
            assert [next(ahead) for _ in range(5)] == BODIES[:5]
            ahead.close()

        assert connections_so_far(server) - before <= 4


def run_counting_nginx(folder):
    (folder / "www").mkdir()
    for number in range(5):
        (folder / "www" / f"d{number}").write_bytes(BODIES[number])
    return run_nginx(folder, location='location = /count { return 200 "$connection"; }')


def connections_so_far(server):
    with urllib.request.urlopen(f"{server}/count", timeout=5) as answer:
        return int(answer.read())
