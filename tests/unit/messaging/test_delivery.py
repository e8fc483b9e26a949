from hypothesis import given
from hypothesis import strategies as st

from cernvm.messaging import Message
from cernvm.messaging.delivery import Inbox, Outbox


def message(number=1):
    return Message(f"id-{number}", "a@b/c", "d@e", "ping")


def test_the_pauses_between_copies_double():
    outbox = Outbox()
    outbox.add(message(), 0.0)

    sent = [second for second in range(400) if outbox.due(float(second))]

    assert sent == [10, 30, 70, 150, 310]


def test_an_acknowledged_message_is_not_sent_again():
    outbox = Outbox()
    outbox.add(message(), 0.0)

    assert outbox.remove("id-1")
    assert outbox.due(1000.0) == []
    assert outbox.next_at() is None
    assert not outbox.remove("id-1")


def test_a_message_is_given_up_after_a_day():
    outbox = Outbox()
    outbox.add(message(), 0.0)

    assert outbox.dropped(86_399.0) == []
    assert outbox.dropped(86_400.0) == [message()]
    assert outbox.next_at() is None


def test_a_new_connection_makes_everything_due():
    outbox = Outbox()
    outbox.add(message(), 0.0)

    outbox.hurry(3.0)

    assert outbox.next_at() == 3.0
    assert outbox.due(3.0) == [message()]


@given(st.lists(st.floats(0, 100_000), max_size=30))
def test_no_copy_is_due_before_its_moment(moments):
    outbox = Outbox()
    outbox.add(message(), 0.0)

    for moment in sorted(moments):
        planned = outbox.next_at()
        due = outbox.due(moment)

        assert not due or planned <= moment
        assert outbox.due(moment) == []


@given(st.lists(st.integers(0, 8)))
def test_each_message_is_new_once(numbers):
    inbox = Inbox()
    new = []
    for number in numbers:
        if not inbox.is_known(message(number)):
            inbox.accept(message(number))
            new.append(number)

    assert new == list(dict.fromkeys(numbers))


def test_the_oldest_messages_are_forgotten():
    inbox = Inbox(remembered=2)
    for number in (1, 2, 3):
        inbox.accept(message(number))

    assert [inbox.is_known(message(number)) for number in (1, 2, 3)] == [False, True, True]
