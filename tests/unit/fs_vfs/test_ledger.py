"""The ledger of inodes says the same to whoever opens it next, wherever the process before was cut short."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.fs.vfs.ledger import NOWHERE, InodeLedger

ROOT = "a" * 40
names = st.binary(min_size=1, max_size=60)
steps = st.lists(st.tuples(st.sampled_from(["add", "count", "drop"]), names, st.integers(1, 9)))


def reopened(ledger):
    return InodeLedger(os.dup(ledger.descriptor))


def told(ledger):
    return {known.inode: (known.references, known.path) for known in ledger.known()}


@given(steps)
@settings(max_examples=60, deadline=None)
def test_the_next_process_knows_what_this_one_wrote(actions):
    ledger, slots, expected = InodeLedger(), {}, {}
    for verb, name, number in actions:
        inode = 2 + int.from_bytes(name[:6], "little")
        if verb == "add" and inode not in slots:
            slots[inode] = ledger.add(inode, name, ledger.revision(ROOT), number)
            expected[inode] = (number, name)
        elif verb == "count" and inode in slots:
            ledger.count(slots[inode], number)
            expected[inode] = (number, expected[inode][1])
        elif verb == "drop" and inode in slots:
            ledger.count(slots.pop(inode), 0)
            del expected[inode]

    again = reopened(ledger)
    assert told(again) == expected
    assert {known.slot for known in again.known()} == set(slots.values())
    again.close()
    ledger.close()


def test_a_slot_is_used_again_and_the_revision_stays_known():
    ledger = InodeLedger()
    first = ledger.add(5, b"/one", ledger.revision(ROOT), 1)
    ledger.count(first, 0)

    assert ledger.add(6, b"/two", ledger.revision("b" * 40), 1) == first
    assert ledger.add(7, b"/six", ledger.revision(ROOT), 1) not in (first, NOWHERE)
    assert {k.path: k.root_catalog for k in reopened(ledger).known()} == {
        b"/two": "b" * 40,
        b"/six": ROOT,
    }


def test_it_grows_as_far_as_there_are_inodes():
    ledger = InodeLedger()
    for number in range(2, 20_000):
        ledger.add(number, b"/some/folder/%d" % number, ledger.revision(ROOT), 1)

    assert len(reopened(ledger).known()) == 19_998


def test_a_record_that_was_cut_short_counts_nothing():
    """A kill between its bytes: the count, which makes it one, comes last."""
    ledger = InodeLedger()
    slot = ledger.add(5, b"/one", ledger.revision(ROOT), 1)
    os.pwrite(ledger.descriptor, b"\0\0\0\0", slot + 16)

    assert reopened(ledger).known() == []


@given(st.binary(max_size=400), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_damaged_memory_is_survived(noise, at):
    ledger = InodeLedger()
    ledger.add(5, b"/one", ledger.revision(ROOT), 1)
    os.pwrite(ledger.descriptor, noise, at)

    again = reopened(ledger)
    assert again.add(9, b"/nine", again.revision(ROOT), 1) is not None
    again.close()
    ledger.close()
