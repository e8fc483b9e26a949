"""Work that waits is done by its deadline or given up, and never keeps other work waiting."""

import threading
import time

import pytest

from cernvm.core.clock import Deadline
from cernvm.fs.fuse.workers import Work, Workers


@pytest.fixture
def workers():
    made = Workers(2)
    yield made
    made.close()


def work(do, *, seconds=5.0, give_up=lambda: None):
    return Work(lambda _deadline: do(), give_up, Deadline.after(seconds))


def test_work_is_done(workers):
    done = threading.Event()
    workers.submit(work(done.set))

    assert done.wait(2)


def test_stuck_work_does_not_keep_other_work_waiting(workers):
    release, done = threading.Event(), threading.Event()
    for _ in range(10):
        workers.submit(work(release.wait))
    workers.submit(work(done.set))
    begin = time.monotonic()

    assert done.wait(3)
    assert time.monotonic() - begin < 2
    release.set()


def test_what_is_stuck_is_given_up_at_its_deadline(workers):
    release, given_up = threading.Event(), threading.Event()
    begin = time.monotonic()
    workers.submit(work(release.wait, seconds=0.3, give_up=given_up.set))

    assert given_up.wait(3)
    assert time.monotonic() - begin < 1.5
    release.set()


def test_what_is_done_in_time_is_not_given_up(workers):
    given_up, done = threading.Event(), threading.Event()
    workers.submit(work(done.set, seconds=0.1, give_up=given_up.set))
    done.wait(2)

    assert not given_up.wait(0.7)


def test_without_more_threads_work_is_done_by_those_there_are(workers, monkeypatch):
    done = threading.Event()
    workers.submit(work(lambda: time.sleep(0.1)))

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(5):
        workers.submit(work(lambda: None))
    workers.submit(work(done.set))

    assert done.wait(3)


def test_threads_end_with_it():
    before = threading.active_count()
    workers = Workers(4)
    for _ in range(8):
        workers.submit(work(lambda: None))
    time.sleep(0.2)
    workers.close()
    time.sleep(0.4)

    assert threading.active_count() <= before
