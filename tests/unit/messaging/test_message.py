import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import MessageFormatError
from cernvm.messaging import Ack, Message, format_message, parse_message

NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,20}\Z").filter(
    lambda name: name.lower()[:3] != "xml" and name != "command"
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
FIELDS = st.recursive(
    st.dictionaries(NAMES, TEXTS, max_size=4),
    lambda inner: st.dictionaries(NAMES, TEXTS | inner, max_size=3),
    max_leaves=6,
)


@given(FIELDS, st.booleans())
def test_a_message_survives_its_text(fields, wants_ack):
    message = Message("id-1", "a@grid.test/x", "b@grid.test", "runJob", fields, wants_ack)

    assert parse_message(format_message(message)) == message


def test_a_receipt_survives_its_text():
    ack = Ack("id-1", "b@grid.test/y", "a@grid.test/x")

    assert parse_message(format_message(ack)) == ack


def test_the_text_is_the_original_systems():
    message = Message("1", "a@b", "c@d", "want_getJob", {"agentHost": "vm", "job": {"id": "7"}})

    assert format_message(message) == (
        '<message from="a@b" to="c@d" id="1"><body><info'
        " command='_BASE64:d2FudF9nZXRKb2I=' agentHost='_BASE64:dm0='>"
        "<job id='_BASE64:Nw=='/></info></body></message>"
    )


def test_the_mark_of_the_reports_example_is_read_too():
    text = (
        "<message from='a@b' to='c@d' id='1' noack='1'><body>"
        "<info command='__BASE64:cGluZw=='/></body></message>"
    )

    assert parse_message(text) == Message("1", "a@b", "c@d", "ping", wants_ack=False)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "a b"},
        {"sender": "a b@c"},
        {"recipient": "a'@c"},
        {"command": "no such"},
        {"fields": {"command": "x"}},
        {"fields": {"1a": "x"}},
        {"fields": {"xmlns": "x"}},
        {"fields": {"a": "\udc80"}},
        {"fields": {f"f{n}": "" for n in range(1001)}},
        {"fields": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}},
    ],
)
def test_a_message_that_the_wire_cannot_carry_cannot_exist(change):
    values = {"id": "1", "sender": "a@b", "recipient": "c@d", "command": "ping", **change}

    with pytest.raises(MessageFormatError):
        Message(**values)


def test_a_message_too_large_for_its_receiver_is_not_sent():
    message = Message("1", "a@b", "c@d", "ping", {"a": "x" * 150_000})

    with pytest.raises(MessageFormatError, match="too many"):
        format_message(message)


def test_a_missing_field_is_named():
    message = Message("1", "a@b", "c@d", "ping", {"group": {}})

    with pytest.raises(MessageFormatError, match="jobID"):
        message.text("jobID")
    with pytest.raises(MessageFormatError, match="group"):
        message.text("group")
