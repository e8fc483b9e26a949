"""Records of a holder that somebody forged or damaged: they hold a store for a minute at most, and break nothing."""

import json

import pytest

from cernvm.core.errors import TransactionOpenError
from cernvm.fs.store.lease import LEASE_S, Lease, Seen


class MemorySeat:
    """A record that stands, of a given age."""

    heeds_conditions = True

    def __init__(self, data, age_s):
        self.seen = Seen(data, "0", age_s)

    def look(self):
        return self.seen

    def take(self, data, over):
        if (None if self.seen is None else self.seen.tag) != over:
            return None
        self.seen = Seen(data, str(int(over or 0) + 1), 0.0)
        return self.seen.tag

    def leave(self):
        self.seen = None


FORGED = [
    b"",
    b"\xff\xfe",
    b"[" * 4000,
    b"[]",
    b'"x"',
    b"{}",
    json.dumps({"lease_s": 1e300}).encode(),
    json.dumps({"lease_s": -1}).encode(),
    b'{"lease_s": NaN}',
    b'{"lease_s": Infinity}',
    json.dumps(
        {"lease_s": "long", "pid": "x", "machine": 1, "started": None, "host": "h" * 4000}
    ).encode(),
]


@pytest.mark.parametrize("data", FORGED)
def test_a_forged_record_holds_the_store_no_longer_than_a_real_one(data):
    with Lease(MemorySeat(data, LEASE_S + 1), store="here").held(0):
        pass


@pytest.mark.parametrize("data", FORGED)
def test_a_fresh_one_is_told_in_a_sentence(data):
    with (
        pytest.raises(TransactionOpenError) as caught,
        Lease(MemorySeat(data, 1.0), store="here").held(0),
    ):
        pass
    assert len(str(caught.value)) < 300


def test_a_seat_that_is_free_is_left_free():
    seat = MemorySeat(b"", LEASE_S + 1)
    with Lease(seat, store="here").held(0):
        assert json.loads(seat.seen.data)["lease_s"] == LEASE_S
        with (
            pytest.raises(TransactionOpenError, match="process"),
            Lease(seat, store="here").held(0),
        ):
            pass
    assert seat.seen is None
