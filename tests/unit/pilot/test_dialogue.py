import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.core.errors import MessageFormatError
from cernvm.messaging import Message
from cernvm.pilot import commands
from cernvm.pilot.commands import Destination, Ending, JobKey
from cernvm.pilot.dialogue import Dialogue, Drop, Execute, Phase, Say, Store
from cernvm.pilot.job import Job, Output

MANAGER = "jobs@grid.test/m1"
JOB = Job("7", "", ("evgen", "--seed", "a b"), outputs=("a.root",), fence=2)
KEY = JobKey("7", 2)
MADE = (Output("a.root", 3, "0" * 64),)
WELL = Ending(KEY, is_good=True)
BADLY = Ending(KEY, is_good=False, exit_code=3, reason="code 3", tail="oops")


def message(command, fields=None, sender=MANAGER):
    return Message("1", sender, "pilot@grid.test/p", command, fields or {})


ORDER = message(commands.RUN_JOB, commands.order_fields(JOB, lease_s=30))
DESTINATION = message(
    commands.STORE_OUTPUT_DIR,
    commands.destination_fields(Destination(KEY, "http://s", "jobs/7/2", "token")),
)
ACCEPTED = message(commands.JOB_ACCEPTED, KEY.to_fields())
DROPPED = message(commands.DROP_JOB, KEY.to_fields(reason="cancelled"))


def said(actions):
    return [(action.recipient, action.command) for action in actions if isinstance(action, Say)]


@pytest.fixture
def pilot():
    dialogue = Dialogue(manager="jobs@grid.test", host="vm")
    dialogue.start(0.0)
    return dialogue


def running(pilot):
    pilot.received(message(commands.HAVE_JOB), 1.0)
    return pilot.received(ORDER, 1.0)


def test_one_job_from_asking_to_asking_again(pilot):
    assert said(pilot.received(message(commands.HAVE_JOB), 1)) == [(MANAGER, "getJob")]
    beat, execute = pilot.received(ORDER, 1)
    assert said([beat]) == [("jobs@grid.test", "jobRunning")]
    assert execute == Execute(commands.read_order(ORDER))
    (declare,) = pilot.exited(WELL, MADE, 2)
    assert commands.read_declaration(message("x", declare.fields)) == MADE
    assert pilot.received(DESTINATION, 3) == [Store(commands.read_destination(DESTINATION), MADE)]
    assert said(pilot.stored(KEY, 4)) == [("jobs@grid.test", "jobDone")]
    drop, ask = pilot.received(ACCEPTED, 5)
    assert drop == Drop()
    assert said([ask]) == [("jobs@grid.test", "want_getJob")]


def test_a_job_without_outputs_is_done_at_once(pilot):
    order = commands.order_fields(Job("7", "", ("true",), fence=2), lease_s=30)
    pilot.received(message(commands.HAVE_JOB), 1)
    pilot.received(message(commands.RUN_JOB, order), 1)

    assert said(pilot.exited(WELL, (), 2)) == [("jobs@grid.test", "jobDone")]


def test_a_failed_job_is_reported_with_its_last_words(pilot):
    running(pilot)

    (report,) = pilot.exited(BADLY, (), 2)

    assert commands.read_ending(message("x", report.fields)) == BADLY


def test_it_asks_again_less_and_less_often(pilot):
    moments = []
    for _ in range(40):
        moments.append(pilot.wake_at)
        assert said(pilot.elapsed(pilot.wake_at)) == [("jobs@grid.test", "want_getJob")]

    pauses = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert [max(pauses), pauses[-1]] == pytest.approx([60, 60])


def test_a_manager_that_never_orders_is_left(pilot):
    pilot.received(message(commands.HAVE_JOB), 1)

    assert said(pilot.elapsed(31)) == [("jobs@grid.test", "want_getJob")]
    assert pilot.phase is Phase.ASKING


def test_the_lease_is_renewed_three_times_while_the_job_runs(pilot):
    running(pilot)

    beats = 0
    while pilot.wake_at < 31.5:
        beats += said(pilot.elapsed(pilot.wake_at)) == [("jobs@grid.test", "jobRunning")]

    assert beats == 3


@pytest.mark.parametrize("phase", ["declared", "finishing"])
def test_what_is_not_answered_is_said_again(pilot, phase):
    running(pilot)
    ending = WELL if phase == "declared" else BADLY
    (first,) = pilot.exited(ending, MADE, 2)

    again = [action for action in pilot.elapsed(12) if action.command != commands.JOB_RUNNING]

    assert again == [first]


@pytest.mark.parametrize("phase", ["running", "declared", "storing", "finishing"])
def test_a_lost_job_is_dropped_in_every_phase(pilot, phase):
    running(pilot)
    if phase != "running":
        pilot.exited(WELL, MADE, 2)
    if phase in ("storing", "finishing"):
        pilot.received(DESTINATION, 3)
    if phase == "finishing":
        pilot.stored(KEY, 4)
    assert pilot.phase.value == phase

    drop, ask = pilot.received(DROPPED, 5)

    assert drop == Drop()
    assert said([ask]) == [("jobs@grid.test", "want_getJob")]
    assert pilot.exited(WELL, MADE, 6) == pilot.stored(KEY, 6) == pilot.broke(KEY, "x", 6) == []


def test_an_order_that_comes_too_late_is_given_back_untried(pilot):
    (back,) = pilot.received(ORDER, 1)

    assert (back.command, back.fields["counts"]) == (commands.GIVE_BACK, "0")


def test_the_same_order_twice_is_one_job(pilot):
    running(pilot)

    assert pilot.received(ORDER, 2) == []


def test_what_is_not_the_jobs_fault_gives_it_back_and_pauses(pilot):
    running(pilot)

    back, drop = pilot.broke(KEY, "disk full", 2)

    assert (back.command, back.fields["counts"]) == (commands.GIVE_BACK, "1")
    assert drop == Drop()
    assert pilot.phase is Phase.ASKING


def test_stopping_kills_the_job_before_it_is_given_back(pilot):
    running(pilot)

    drop, back = pilot.stop("stopped")

    assert (drop, back.command, back.fields["counts"]) == (Drop(), commands.GIVE_BACK, "0")
    assert pilot.wake_at == float("inf")


@pytest.mark.parametrize(
    "sent",
    [
        message(commands.HAVE_JOB, sender="evil@grid.test/m1"),
        message("sleep"),
        ACCEPTED,
        DESTINATION,
    ],
)
def test_what_is_not_expected_is_ignored(pilot, sent):
    assert pilot.received(sent, 1) == []
    assert pilot.phase is Phase.ASKING


def test_another_account_can_give_no_orders(pilot):
    pilot.received(message(commands.HAVE_JOB), 1)
    evil = Message("1", "evil@grid.test/x", "pilot@grid.test/p", ORDER.command, ORDER.fields)

    assert pilot.received(evil, 2) == []


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"command": ""},
        {"arguments": "'unclosed"},
        {"outputFiles": "../x"},
        {"outputFiles": "a###a"},
        {"wallLimit": "-1"},
        {"wallLimit": "nan"},
        {"lease": "never"},
        {"environment": {"A": {}}},
        {"environment": "x"},
    ],
)
def test_an_order_that_makes_no_sense_is_refused(pilot, change):
    job = {**ORDER.fields["job"], **change}
    job = {name: value for name, value in job.items() if value is not None}

    with pytest.raises(MessageFormatError):
        pilot.received(message(commands.RUN_JOB, {**ORDER.fields, "job": job}), 1)


EVENTS = st.one_of(
    st.sampled_from([ORDER, DESTINATION, ACCEPTED, DROPPED, message(commands.HAVE_JOB)]),
    st.sampled_from(["elapsed", "exited", "failed", "stored", "broke"]),
)


@given(st.lists(EVENTS, max_size=40))
@settings(max_examples=200)
def test_no_order_of_events_runs_two_jobs_at_once_or_forgets_to_ask(events):
    pilot = Dialogue(manager="jobs@grid.test", host="vm")
    pilot.start(0.0)
    now, at_work = 0.0, 0
    for event in events:
        now += 1.0
        match event:
            case Message():
                actions = pilot.received(event, now)
            case "elapsed":
                now = max(now, pilot.wake_at)
                actions = pilot.elapsed(now)
            case "exited":
                actions = pilot.exited(WELL, MADE, now)
            case "failed":
                actions = pilot.exited(BADLY, (), now)
            case "stored":
                actions = pilot.stored(KEY, now)
            case _:
                actions = pilot.broke(KEY, "x", now)
        for action in actions:
            at_work += isinstance(action, Execute)
            if isinstance(action, Drop):
                at_work = 0
        assert at_work <= 1
        assert pilot.wake_at < float("inf")
        assert (pilot.phase is Phase.ASKING) <= (at_work == 0)
