"""Who is left alone, who is fast, who is named."""

import random

from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.clock import FakeClock
from cernvm.fs.peers import Peer
from cernvm.fs.peers.hearsay import MAX_HOLDERS, MAX_PATHS, Hearsay
from cernvm.fs.peers.standing import BAN_MOST_S, REST_MOST_S, Blame, Standings
from cernvm.fs.peers.throttle import BURST_S, Throttle

PEER, OTHER = Peer("192.0.2.1", 1), Peer("192.0.2.2", 1)


def rests(blame, times):
    clock = FakeClock()
    standings = Standings(clock)
    found = []
    for _ in range(times):
        found.append(standings.blame(PEER, blame))
        assert not standings.may_be_asked(PEER)
        assert standings.left_alone() == 1
        clock.advance(found[-1])
        assert standings.may_be_asked(PEER)
    return found


def test_who_fails_again_rests_longer_but_not_for_ever():
    assert rests(Blame.FAILED, 12) == [
        *(2.0**n for n in range(-2, 9)),
        REST_MOST_S,
    ]


def test_who_lies_is_banned_for_a_minute_and_more_each_time():
    assert rests(Blame.LIED, 7) == [60, 240, 960, 3840, 15360, 61440, BAN_MOST_S]


def test_who_is_busy_has_done_nothing_wrong():
    assert rests(Blame.BUSY, 5) == 5 * [0.5]


def test_readers_who_waited_together_are_one_failure():
    standings = Standings(FakeClock())
    assert [standings.blame(PEER, Blame.FAILED) for _ in range(3)] == [0.25, 0, 0]


def test_good_conduct_makes_up_for_failures_and_not_for_lies():
    clock = FakeClock()
    standings = Standings(clock)
    for blame, expected_s in ((Blame.FAILED, 0.25), (Blame.LIED, 240)):
        standings.blame(PEER, blame)
        clock.advance(100)
        standings.went_well(PEER)
        assert standings.blame(PEER, blame) == expected_s
        clock.advance(1000)


@given(st.lists(st.sampled_from(list(Blame)), max_size=50))
def test_blame_for_one_is_none_for_another(blames):
    standings = Standings(FakeClock())
    for blame in blames:
        standings.blame(PEER, blame)
    assert standings.may_be_asked(OTHER)


def test_what_a_throttle_lets_pass_is_its_rate():
    clock = FakeClock()
    throttle = Throttle(1000, clock)
    for _ in range(100):
        throttle.pass_on(100)
    assert 10 - BURST_S <= clock.monotonic() <= 10


def test_a_throttle_says_when_it_is_behind():
    clock = FakeClock()
    throttle = Throttle(1000, clock)
    throttle._free_at_s = 1.0
    assert throttle.is_behind
    clock.advance(1.0)
    assert not throttle.is_behind


def test_no_limit_is_no_wait():
    clock = FakeClock()
    Throttle(0, clock).pass_on(10**12)
    assert clock.monotonic() == 0


def test_who_asked_is_named_to_others_and_not_to_itself():
    hearsay = Hearsay(random.Random(1))
    assert hearsay.holder("a") is None
    hearsay.asked("a", PEER)
    assert hearsay.holder("a") == PEER
    assert hearsay.holder("a", besides=PEER) is None
    hearsay.asked("a", OTHER)
    assert hearsay.holder("a", besides=PEER) == OTHER
    assert hearsay.holder("b") is None


def test_hearsay_is_bounded():
    hearsay = Hearsay()
    for number in range(MAX_PATHS + 10):
        hearsay.asked(str(number), PEER)
    assert hearsay.holder("9") is None
    assert hearsay.holder(str(MAX_PATHS)) == PEER
    for number in range(1, 100):
        hearsay.asked("one", Peer("192.0.2.9", number))
    assert len(hearsay._holders["one"]) == MAX_HOLDERS
