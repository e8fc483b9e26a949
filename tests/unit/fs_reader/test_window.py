from hypothesis import given
from hypothesis import strategies as st

from cernvm.fs.reader.ahead.window import (
    HELD_RTTS,
    LARGEST_BYTES,
    SMALLEST_BYTES,
    Window,
    first_window,
)

sizes = st.integers(1, 3 << 20)


@given(st.lists(st.tuples(st.sampled_from(["send", "use", "waste", "return"]), sizes), max_size=80))
def test_no_more_than_one_thing_reaches_over_the_edge_and_the_edge_stays_within_bounds(events):
    window = Window(SMALLEST_BYTES)
    out, last = [], 0
    for what, size in events:
        if what == "send" and window.has_room:
            window.sent(size)
            out.append(size)
            last = max(last, size)
            assert window.unused_bytes <= max(window.size_bytes, LARGEST_BYTES) + last
        elif out and what != "send":
            {"use": window.used, "waste": window.wasted, "return": window.returned}[what](out.pop())
        assert SMALLEST_BYTES <= window.size_bytes <= LARGEST_BYTES
        assert window.unused_bytes == sum(out)


@given(st.lists(sizes, max_size=40))
def test_a_window_grows_by_nothing_but_what_was_used(used):
    window = Window(SMALLEST_BYTES)
    for size in used:
        window.sent(size)
        before = window.size_bytes
        window.used(size)
        assert window.size_bytes == min(before + size, LARGEST_BYTES)


def test_what_is_wasted_closes_the_window_again():
    window = Window(SMALLEST_BYTES)
    for _ in range(20):
        window.sent(1 << 20)
        window.used(1 << 20)
    assert window.size_bytes == LARGEST_BYTES

    for _ in range(20):
        window.sent(1 << 20)
        window.wasted(1 << 20)
    assert window.size_bytes == SMALLEST_BYTES


def test_the_first_window_holds_what_the_link_does():
    near, far = first_window(0.00005, 100e6), first_window(0.05, 10e6)
    assert near.size_bytes == SMALLEST_BYTES
    assert far.size_bytes == LARGEST_BYTES // 2
    assert first_window(0.01, 10e6).size_bytes == HELD_RTTS * 100_000
    assert first_window(0.0001, 100e6, is_walk=True).size_bytes > near.size_bytes
