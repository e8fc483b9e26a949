"""Replicas that are kept up to date: one that fails is noted, and the others have their turn."""

import tempfile
from dataclasses import replace

from cernvm.core.clock import FakeClock, SystemClock
from cernvm.core.errors import SpaceError
from cernvm.fs.replicate.state import STATUS_PATH, read_document
from cernvm.fs.replicate.updating import keep_updated
from cernvm.fs.store.local import LocalStore
from system.replicas import NAME


def rounds(replicas, count=1):
    """The updates of so many rounds."""
    found = []
    keep_updated(
        lambda: replicas,
        every_s=1,
        clock=FakeClock(SystemClock().now()),
        on_update=found.append,
        is_over=lambda: len(found) >= count * len(replicas),
    )
    return found


def test_a_store_that_cannot_be_opened_keeps_no_other_replica_from_its_turn(upstream, copy):
    lost = replace(upstream.replica(copy), name="lost.cernvm.test", storage="nowhere://at/all")

    one, other = rounds([lost, upstream.replica(copy)])

    assert one.error is not None
    assert other.replicated.revision == 1


def test_a_full_disk_for_what_is_in_work_is_noted_and_tried_again(upstream, copy, monkeypatch):
    def make_nothing(**words):
        monkeypatch.undo()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", make_nothing)

    one, other = rounds([upstream.replica(copy)], 2)

    assert isinstance(one.error, SpaceError)
    assert other.replicated.is_new
    assert other.name == NAME
    assert "last_error" in read_document(LocalStore(copy), STATUS_PATH)
