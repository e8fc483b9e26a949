"""What every fetcher does, in memory and over real sockets."""

import threading
import time

import pytest

from cernvm.core.clock import Deadline
from cernvm.core.errors import (
    DeadlineError,
    DigestMismatchError,
    FormatError,
    HostError,
    SpaceError,
)
from cernvm.net import Chain, ChainFetcher, Fault, fetch

PATH = "data/ab/cdef"
BODY = bytes(range(256)) * 40


@pytest.fixture
def fetcher(world):
    world.put(PATH, BODY)
    return ChainFetcher(Chain(world.hosts), world.exchange)


def accept_body(data):
    if data != BODY:
        raise DigestMismatchError(expected="right", got="wrong", source=PATH)
    return data


def get(fetcher, *, path=PATH, accept=accept_body, limit_bytes=100_000, seconds=5.0, **more):
    return fetch(
        fetcher,
        path,
        limit_bytes=limit_bytes,
        deadline=Deadline.after(seconds),
        accept=accept,
        **more,
    )


def test_a_document_arrives_whole(fetcher):
    assert get(fetcher) == BODY


def test_the_second_host_is_not_asked_when_the_first_answers(fetcher, world):
    get(fetcher)

    assert world.asked(1) == []


@pytest.mark.parametrize(
    "fault", [Fault.REFUSED, Fault.SILENT, Fault.CUT, Fault.BROKEN, Fault.FLIPPED]
)
def test_the_next_host_helps_out(fetcher, world, fault):
    world.fault(0, fault)

    assert get(fetcher) == BODY
    assert fetcher.hosts[0] == world.hosts[1]


def test_the_host_that_helped_is_asked_first_from_then_on(fetcher, world):
    world.fault(0, Fault.BROKEN)
    get(fetcher)
    asked = len(world.asked(0))

    get(fetcher)

    assert len(world.asked(0)) == asked


def test_refused_content_is_asked_for_past_the_caches_before_another_host(fetcher, world):
    world.fault(0, Fault.STALE)

    assert get(fetcher) == BODY
    assert world.asked(0) == [(PATH, False), (PATH, True)]
    assert world.asked(1) == []


def test_content_that_all_hosts_forge_is_a_trust_error(fetcher, world):
    world.fault(0, Fault.FLIPPED)
    world.fault(1, Fault.FLIPPED)

    with pytest.raises(DigestMismatchError):
        get(fetcher)


def test_a_refusal_tells_more_than_the_silence_of_the_next_host(fetcher, world):
    world.fault(0, Fault.FLIPPED)
    world.fault(1, Fault.BROKEN)

    with pytest.raises(DigestMismatchError):
        get(fetcher)


def test_what_nobody_has_is_a_host_error_with_its_status(fetcher):
    with pytest.raises(HostError) as caught:
        get(fetcher, path="data/00/nothing")

    assert caught.value.status == 404


def test_an_answer_over_the_limit_is_refused(fetcher):
    with pytest.raises(HostError, match="larger than 100 bytes"):
        get(fetcher, limit_bytes=100)


def test_a_full_disk_is_not_blamed_on_hosts(fetcher, world):
    def full(_data):
        raise SpaceError("the disk is full")

    with pytest.raises(SpaceError):
        get(fetcher, accept=full)
    assert world.asked(1) == []


def test_a_document_that_cannot_be_parsed_is_refused_like_a_forged_one(fetcher, world):
    seen = []

    def parse(data):
        seen.append(data)
        if len(seen) < 3:
            raise FormatError("not today")
        return data

    assert get(fetcher, accept=parse) == BODY
    assert len(world.asked(1)) == 1


def test_the_deadline_holds_when_every_host_is_silent(fetcher, world):
    world.fault(0, Fault.SILENT)
    world.fault(1, Fault.SILENT)
    started = time.monotonic()

    with pytest.raises(DeadlineError):
        get(fetcher, seconds=0.8)
    assert time.monotonic() - started < 2


def test_every_attempt_is_told(fetcher, world):
    world.fault(0, Fault.BROKEN)
    told = []

    get(fetcher, on_attempt=told.append)

    assert [bool(attempt.error) for attempt in told] == [True, False]
    assert told[0].url == f"{world.hosts[0]}/{PATH}"


def test_traffic_is_counted(fetcher, world):
    world.fault(0, Fault.BROKEN)

    get(fetcher)

    assert (fetcher.traffic.requests, fetcher.traffic.failures) == (2, 1)
    assert fetcher.traffic.received_bytes == len(BODY)


def test_many_threads_fetch_at_once(fetcher, world):
    for number in range(40):
        world.put(f"data/{number}", BODY)
    got = []
    threads = [
        threading.Thread(target=lambda n=n: got.append(get(fetcher, path=f"data/{n}", seconds=20)))
        for n in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert got == [BODY] * 40
