import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import MessageFormatError
from cernvm.messaging import Message, format_message, parse_message

HEAD = "<message from='a@b' to='c@d' id='1'>"
GOOD = format_message(Message("1", "a@b", "c@d", "runJob", {"job": {"id": "7", "command": "x"}}))

HOSTILE = {
    "entities that grow": "<!DOCTYPE m [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>" + GOOD,
    "an external entity": "<!DOCTYPE m [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>"
    + HEAD
    + "<body>&a;</body></message>",
    "a bare document type": "<!DOCTYPE message>" + GOOD,
    "an undefined entity": HEAD + "<body>&nothing;</body></message>",
    "two bodies": HEAD + "<body/><body/></message>",
    "two infos": HEAD + "<body><info command='_BASE64:eA=='/><info/></body></message>",
    "no body": HEAD + "</message>",
    "no command": HEAD + "<body><info/></body></message>",
    "a command that is an element": HEAD + "<body><info><command/></info></body></message>",
    "a value that is no base64": HEAD + "<body><info command='_BASE64:%%'/></body></message>",
    "a value without its mark": HEAD + "<body><info command='cGluZw=='/></body></message>",
    "a value that is no text": HEAD + "<body><info command='_BASE64:/w=='/></body></message>",
    "a field and a group of one name": HEAD
    + "<body><info command='_BASE64:eA==' a='_BASE64:eA=='><a/></info></body></message>",
    "a group twice": HEAD + "<body><info command='_BASE64:eA=='><a/><a/></info></body></message>",
    "deep nesting": HEAD + "<body>" + "<a>" * 5000,
    "too many fields": HEAD
    + "<body><info command='_BASE64:eA=='>"
    + "".join(f"<f{n}/>" for n in range(1001))
    + "</info></body></message>",
    "too many bytes": HEAD + "<body>" + " " * 200_000 + "</body></message>",
    "another element": "<presence/>",
    "half a message": GOOD[: len(GOOD) // 2],
    "nothing": "",
    "a zero byte": GOOD.replace("<info", "\0<info"),
    "an id that breaks out": GOOD.replace('id="1"', 'id="&quot; onload=&quot;"'),
    "a sender that breaks out": GOOD.replace('from="a@b"', 'from="a@b&gt;&lt;x"'),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_message_is_refused(text):
    with pytest.raises(MessageFormatError):
        parse_message(text)


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_bytes_are_a_message_or_our_error(raw):
    try:
        parse_message(raw)
    except MessageFormatError:
        pass


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_is_a_message_or_our_error(place, byte):
    raw = bytearray(GOOD.encode())
    raw[place] = byte

    try:
        parse_message(bytes(raw))
    except MessageFormatError:
        pass
