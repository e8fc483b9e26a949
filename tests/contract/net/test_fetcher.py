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
from cernvm.net import (
    Chain,
    ChainFetcher,
    Credentials,
    Fault,
    MemoryExchange,
    Rules,
    Urgency,
    Want,
    fetch,
)
from cernvm.net.document import Collected

PATH = "data/ab/cdef"
BODY = bytes(range(256)) * 40


@pytest.fixture
def fetcher(world):
    world.put(PATH, BODY)
    return ChainFetcher(Chain(world.hosts), world.exchange, rules=Rules(backoff_first_s=0.1))


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


def test_who_ran_out_of_time_is_told_of_whom_he_waited_for():
    exchange = MemoryExchange({"http://only": {}}, {("http://only", ""): Fault.SILENT})

    with pytest.raises(DeadlineError, match="fetching .*http://only"):
        get(ChainFetcher(Chain(("http://only",)), exchange), seconds=0.2)


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


def get_part(fetcher, first, last, path=PATH):
    return fetcher.fetch_into(
        path,
        lambda: Collected(bytes),
        limit_bytes=100_000,
        deadline=Deadline.after(5),
        byte_range=(first, last),
    )


@pytest.mark.parametrize(("first", "last"), [(0, 0), (5, 9), (0, len(BODY) - 1)])
def test_a_part_arrives_alone(fetcher, first, last):
    assert get_part(fetcher, first, last) == BODY[first : last + 1]


def test_a_host_that_has_not_all_of_a_part_is_passed_by(fetcher, world):
    world.put(PATH, BODY[:50], host=0)

    assert get_part(fetcher, 40, 99) == BODY[40:100]
    assert len(world.asked(1)) == 1


def fetch_ahead(fetcher, path=PATH):
    return fetcher.fetch_into(
        path,
        lambda: Collected(accept_body),
        limit_bytes=100_000,
        deadline=Deadline.after(5),
        urgency=Urgency.BACKGROUND,
    )


def test_what_is_fetched_ahead_arrives_as_well(fetcher):
    assert fetch_ahead(fetcher) == BODY


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.BROKEN, Fault.FLIPPED])
def test_what_is_fetched_ahead_is_asked_for_once_and_blames_nobody(fetcher, world, fault):
    world.fault(0, fault)

    with pytest.raises((HostError, DigestMismatchError)):
        fetch_ahead(fetcher)
    assert world.asked(1) == []
    assert fetcher.hosts == world.hosts
    assert fetcher.traffic.failures == 0


def test_many_are_fetched_ahead_in_their_order(fetcher, world):
    for number in range(20):
        world.put(f"data/{number}", b"%d" % number)
    world.fault(0, Fault.BROKEN, "data/7")
    wants = [Want(f"data/{number}", lambda: Collected(bytes), 100) for number in range(20)]

    got = list(fetcher.fetch_many(wants, deadline=Deadline.after(5)))

    assert isinstance(got.pop(7), HostError)
    assert got == [b"%d" % number for number in range(20) if number != 7]


def test_credentials_never_go_over_an_open_line(fetcher, world):
    with pytest.raises(HostError, match="https only"):
        fetcher.fetch_into(
            PATH,
            lambda: Collected(bytes),
            limit_bytes=100_000,
            deadline=Deadline.after(5),
            credentials=Credentials(bearer_token="geheim"),
        )
    assert world.asked(0) == world.asked(1) == []
