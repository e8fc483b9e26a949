from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from itertools import product

import pytest

from cernvm.core.errors import ConflictError
from cernvm.site.instance import BY_USER, TRANSITIONS, Image, Instance, State

AT = datetime(2026, 11, 21, tzinfo=UTC)


def instance(state=State.PENDING):
    return Instance(
        "i-00000001", "r-00000001", "predrag", "ami-00000003", 0, "m1.small", "", ("default",),
        IPv4Address("10.77.0.2"), state, AT, AT,
    )  # fmt: skip


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_only_the_steps_of_the_table_can_be_taken(before, after):
    if after in TRANSITIONS[before]:
        assert instance(before).moved(after, at=AT).state is after
    else:
        with pytest.raises(ConflictError):
            instance(before).moved(after, at=AT)


def test_a_step_notes_when_and_why():
    later = AT + timedelta(seconds=5)

    moved = instance(State.RUNNING).moved(State.SHUTTING_DOWN, at=later, reason=BY_USER)

    assert (moved.changed_at, moved.reason, moved.launched_at) == (later, BY_USER, AT)


def test_every_state_can_end():
    assert all(
        State.TERMINATED in TRANSITIONS[state] for state in State if state is not State.TERMINATED
    )


def test_an_image_has_the_same_id_at_every_site():
    assert Image("cernvm", "os.cernvm.test").image_id == "ami-fb6153e7"
    assert Image("cernvm", "os.cernvm.test").image_id != Image("cernvm", "os.other.test").image_id
