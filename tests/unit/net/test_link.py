import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.net.lanes import FIRST_DEPTH, Lanes
from cernvm.net.link import REMEMBER_S, Meter, Recent
from cernvm.net.window import REQUEST_WORTH_BYTES, START, Window

TIMES = st.lists(st.floats(0.0001, 20), min_size=1, max_size=50)


@given(TIMES)
def test_the_best_of_late_is_the_best_there_was(values):
    shortest = Recent(shortest=True)
    for value in values:
        shortest = shortest.taken(value, 0.0)

    assert shortest.best == min(values)


def test_what_is_long_past_is_forgotten():
    recent = Recent(shortest=True).taken(0.01, 0.0)
    for step in range(1, 4):
        recent = recent.taken(0.5, step * REMEMBER_S)

    assert recent.best == 0.5


def test_throughput_is_measured_over_all_that_comes_at_once():
    meter = Meter()
    for step in range(1000):
        meter.received(10_000, 100 + step / 1000, is_pressed=True)

    assert meter.rate.best == pytest.approx(10_000_000, rel=0.1)


def test_a_pause_is_not_taken_for_a_slow_link():
    meter = Meter()
    for step in range(1000):
        pause_s = 60 if step > 500 else 0
        meter.received(10_000, 100 + step / 1000 + pause_s, is_pressed=True)

    assert meter.rate.best == pytest.approx(10_000_000, rel=0.1)


def fed(meter, rates, *, is_pressed=True, since_s=100.0):
    """What a second at each of these rates says."""
    for second, rate in enumerate(rates):
        for step in range(100):
            now_s = since_s + second + step / 100
            meter.received(int(rate / 100), now_s, is_pressed=is_pressed)
    return meter.bytes_per_s


def test_a_rate_that_still_grows_is_not_taken_for_all_that_the_link_carries():
    meter = Meter()
    for epoch in range(40):
        meter.received(int(1_000 * 1.3**epoch), 100 + epoch * 0.1001, is_pressed=True)
        assert meter.bytes_per_s == 0


def test_what_comes_for_single_readers_says_nothing_of_what_the_link_carries():
    assert fed(Meter(), [5_000_000] * 3, is_pressed=False) == 0


def test_a_link_that_brings_no_more_is_full():
    assert fed(Meter(), [1_000_000, 5_000_000, 5_000_000]) == pytest.approx(5_000_000, rel=0.1)


def test_a_full_link_that_becomes_faster_is_not_known_again_until_it_is_full():
    meter = Meter()
    fed(meter, [5_000_000] * 2)
    for step in range(15):
        meter.received(1_000_000, 102 + step / 100, is_pressed=True)

    assert meter.bytes_per_s == 0


def test_a_few_small_answers_do_not_make_a_link_slow():
    lanes = Lanes()
    lanes.waited(0.02)
    for _ in range(25):
        lanes.received(100)
        time.sleep(0.01)

    assert lanes.link.bytes_per_s == 0
    assert lanes.depth() >= FIRST_DEPTH


def simulate(most, *, rtt_s, bytes_per_s, size_bytes, seconds=10.0, seed=1):
    """Requests over a link of this kind, as many at once as the window says; gives the window's course."""
    source = random.Random(seed)
    window, now_s, course = Window(most=most), 100.0, []
    while now_s < 100 + seconds:
        lanes = window.limit
        each_s = max(rtt_s, lanes * size_bytes / bytes_per_s) * source.uniform(0.9, 1.1)
        now_s += each_s / lanes
        window = window.finished(size_bytes, under_way=lanes, now_s=now_s)
        course.append(window.limit)
    return course


def test_on_a_long_way_many_requests_at_once_pay():
    assert simulate(32, rtt_s=0.02, bytes_per_s=1e9, size_bytes=5_000)[-1] > 24


def test_no_more_are_made_at_once_than_fill_the_link():
    # 12.5 MB/s at 20 ms hold 250 kB: five requests of 50 kB
    course = simulate(32, rtt_s=0.02, bytes_per_s=12_500_000, size_bytes=50_000)

    late = course[len(course) // 2 :]
    assert 2 <= sum(late) / len(late) <= 12


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 64), st.floats(0, 5)), max_size=80),
)
def test_the_window_stays_within_its_bounds(most, events):
    window, now_s = Window(most=most), 0.0
    for size_bytes, under_way, after_s in events:
        now_s += after_s
        window = window.finished(size_bytes, under_way=under_way, now_s=now_s)
        assert 1 <= window.limit <= most


def test_what_is_not_used_does_not_grow():
    window = Window(most=32)
    for step in range(1000):
        window = window.finished(REQUEST_WORTH_BYTES, under_way=1, now_s=step / 100)

    assert window.limit == START
