import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.fs.cache import ContentKey
from cernvm.fs.reader.larder import UNHEARD, Larder


def key(number):
    return ContentKey(Algorithm.SHA1.digest(b"%d" % number))


class Carrier:
    def __init__(self, due_s):
        self.due = due_s

    def due_s(self, _raw):
        return self.due


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), max_size=60), st.data())
def test_it_holds_the_latest_up_to_its_limit_and_tells_what_it_gives_up(puts, data):
    given_up = []
    larder = Larder(100)
    larder.overflow = given_up.append
    held = {}
    for number, size in puts:
        if data.draw(st.booleans()):
            larder.put(key(number), bytes(size), size, UNHEARD)
            if held.pop(number, None):  # it came twice
                assert given_up.pop(0).key == key(number)
            held[number] = size
            while sum(held.values()) > 100:
                oldest = next(iter(held))
                assert given_up.pop(0).key == key(oldest)
                del held[oldest]
        else:
            ration = larder.take(key(number).digest.raw)
            assert (ration and len(ration.stored)) == held.pop(number, None)
        assert larder.size_bytes == sum(held.values())
        assert not given_up


def test_nobody_waits_for_what_is_not_on_its_way():
    began = time.monotonic()
    assert not Larder(100).wait(key(1).digest.raw, 5)
    assert time.monotonic() - began < 1


def test_nobody_waits_for_what_comes_too_late():
    larder = Larder(100)
    larder.expect([key(1).digest.raw], Carrier(due_s=3))
    began = time.monotonic()
    assert not larder.wait(key(1).digest.raw, 1)
    assert time.monotonic() - began < 0.5


def test_who_waits_gets_it_as_soon_as_it_comes():
    larder = Larder(100)
    larder.expect([key(1).digest.raw], Carrier(due_s=0))
    threading.Timer(0.05, larder.put, (key(1), b"content", 7, UNHEARD)).start()
    assert larder.wait(key(1).digest.raw, 5)
    assert larder.take(key(1).digest.raw).stored == b"content"


def test_who_waits_hears_when_it_will_not_come():
    larder = Larder(100)
    carrier = Carrier(due_s=0)
    raw = key(1).digest.raw
    larder.expect([raw], carrier)
    threading.Timer(0.05, larder.ended, ([raw], carrier)).start()
    began = time.monotonic()
    assert not larder.wait(raw, 5)
    assert time.monotonic() - began < 2


def test_a_wait_ends_when_its_time_is_over():
    larder = Larder(100)
    larder.expect([key(1).digest.raw], Carrier(due_s=0))
    began = time.monotonic()
    assert not larder.wait(key(1).digest.raw, 0.1)
    assert 0.05 < time.monotonic() - began < 1


def test_what_has_waited_long_is_handed_out_oldest_first():
    larder = Larder(100)
    for number in range(3):
        larder.put(key(number), b"x", 1, UNHEARD)
    assert larder.take_older_than(60, 10) == []
    assert [ration.key for ration in larder.take_older_than(0, 2)] == [key(0), key(1)]
