"""A loop that is stuck is ended; one that is only busy, or idle, is not."""

import itertools
import threading
import time

from cernvm.fs.mount.watch import LoopWatch


def watched(in_hand, **settings):
    ended = threading.Event()
    watch = LoopWatch(in_hand, limit_s=0.2, look_s=0.02, end=ended.set, **settings)
    watch.start()
    return watch, ended


def test_the_same_request_for_too_long_ends_the_process(caplog):
    watch, ended = watched(lambda: 42)

    assert ended.wait(3)
    assert caplog.records[-1].message == "loop.stuck"
    watch.stop()


def test_a_busy_loop_goes_on():
    numbers = itertools.count(1)
    watch, ended = watched(lambda: next(numbers))

    assert not ended.wait(0.6)
    watch.stop()


def test_an_idle_loop_goes_on():
    watch, ended = watched(lambda: 0)

    assert not ended.wait(0.6)
    watch.stop()


def test_it_ends_when_it_is_stopped():
    watch, ended = watched(lambda: 42)
    watch.stop()
    time.sleep(0.1)

    assert not ended.is_set()
