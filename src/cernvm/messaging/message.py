"""What agents say to each other: one command with named fields, and its XML text.

Text from outside is hostile: its size, depth and names are bounded, document types and entities are refused, and
whatever does not fit is a `MessageFormatError`.
Source: docs/formats/messages.md, "Envelope".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from cernvm.core.errors import MessageFormatError

MAX_TEXT_BYTES = 192 * 1024
MAX_DEPTH = 6
MAX_FIELDS = 1000

_MARK = "_BASE64:"
_MARKS = (_MARK, "__BASE64:")
_FIELD_NAME = re.compile(r"(?!(?i:xml))[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_COMMAND = re.compile(r"[A-Za-z_][A-Za-z0-9_:.-]{0,63}")
_ADDRESS = re.compile(r"[^\s<>&'\"\x00-\x1f\x7f]{1,1023}")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

Fields: TypeAlias = "Mapping[str, str | Fields]"


@dataclass(frozen=True, slots=True)
class Message:
    """One command from one agent to another.

    Shape: `fields` maps names to text or to further fields; `id` is unique for its sender.
    Errors: `MessageFormatError` for anything the wire could not carry.
    """

    id: str
    sender: str
    recipient: str
    command: str
    fields: Fields = field(default_factory=dict)
    wants_ack: bool = True

    def __post_init__(self) -> None:
        _check("id", self.id, _ID)
        _check("from", self.sender, _ADDRESS)
        _check("to", self.recipient, _ADDRESS)
        _check("command", self.command, _COMMAND)
        if "command" in self.fields:
            raise MessageFormatError("a field may not be called command", field="command")
        _check_fields(self.fields, MAX_DEPTH, [MAX_FIELDS])

    def text(self, name: str, default: str | None = None) -> str:
        """The text of a field. Errors: `MessageFormatError` when it is missing without a `default` or is a group."""
        return text_field(self.fields, name, default)

    def group(self, name: str) -> Fields:
        """The fields of a nested element; empty when it is missing."""
        return group_field(self.fields, name)


@dataclass(frozen=True, slots=True)
class Ack:
    """The receipt for one message: its recipient has it and will not ask for it again."""

    id: str
    sender: str
    recipient: str

    def __post_init__(self) -> None:
        _check("ack", self.id, _ID)
        _check("from", self.sender, _ADDRESS)
        _check("to", self.recipient, _ADDRESS)


def format_message(message: Message | Ack) -> str:
    """The XML text of a message or of a receipt.

    Errors: `MessageFormatError` when it would be larger than a receiver accepts.
    """
    ends = f"from={quoteattr(message.sender)} to={quoteattr(message.recipient)}"
    if isinstance(message, Ack):
        # a headline is never queued: a receipt for a sender that is gone is of no use
        return f"<message {ends} type='headline' ack={quoteattr(message.id)}><body/></message>"
    flag = "" if message.wants_ack else " noack='1'"
    info = _format_element("info", {"command": message.command, **message.fields})
    text = f"<message {ends} id={quoteattr(message.id)}{flag}><body>{info}</body></message>"
    if len(text) > MAX_TEXT_BYTES:
        raise MessageFormatError(f"{len(text)} bytes are too many", where=message.command)
    return text


def parse_message(text: str | bytes) -> Message | Ack:
    """Read the XML text of one message. Errors: `MessageFormatError` and nothing else."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(raw) > MAX_TEXT_BYTES:
        raise MessageFormatError(f"{len(raw)} bytes are too many", where="message")
    return read_element(_parse_xml(raw))


def read_element(element: Element) -> Message | Ack:
    """The message in an element that a stream's own parser made. Errors: `MessageFormatError`."""
    if _local(element.tag) != "message":
        raise MessageFormatError(f"expected message, found {_local(element.tag)[:40]}")
    ends = {"sender": element.get("from", ""), "recipient": element.get("to", "")}
    if acknowledged := element.get("ack"):
        return Ack(acknowledged, **ends)
    info = _child(_child(element, "body"), "info")
    fields = dict(_read_fields(info, MAX_DEPTH, [MAX_FIELDS]))
    command = fields.pop("command", "")
    if not isinstance(command, str):
        raise MessageFormatError("it is an element, not a value", field="command")
    return Message(
        element.get("id", ""),
        **ends,
        command=command,
        fields=fields,
        wants_ack=element.get("noack") != "1",
    )


def text_field(fields: Fields, name: str, default: str | None = None) -> str:
    """The text called `name`. Errors: `MessageFormatError` when it is missing without a `default` or is a group."""
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise MessageFormatError("missing" if value is None else "not a text", field=name)
    return value


def group_field(fields: Fields, name: str) -> Fields:
    """The group called `name`; empty when it is missing. Errors: `MessageFormatError` when it is a text."""
    value = fields.get(name, {})
    if isinstance(value, str):
        raise MessageFormatError("not a group", field=name)
    return value


def _check(name: str, value: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(value):
        raise MessageFormatError(f"{value[:80]!r} does not fit", where="message", field=name)


def _check_fields(fields: Fields, depth: int, left: list[int]) -> None:
    _spend(depth, left, len(fields))
    for name, value in fields.items():
        _check("field name", name, _FIELD_NAME)
        if isinstance(value, str):
            _encode(value)
        else:
            _check_fields(value, depth - 1, left)


def _spend(depth: int, left: list[int], count: int) -> None:
    left[0] -= count
    if depth <= 0 or left[0] < 0:
        raise MessageFormatError("too many fields, or too deeply nested", where="message")


def _format_element(name: str, fields: Fields) -> str:
    values = "".join(f" {k}='{_encode(v)}'" for k, v in fields.items() if isinstance(v, str))
    inner = "".join(_format_element(k, v) for k, v in fields.items() if not isinstance(v, str))
    return f"<{name}{values}>{inner}</{name}>" if inner else f"<{name}{values}/>"


def _encode(value: str) -> str:
    try:
        return _MARK + base64.b64encode(value.encode()).decode()
    except UnicodeEncodeError:
        raise MessageFormatError("a value is no valid Unicode text", where="message") from None


def _decode(value: str, name: str) -> str:
    for mark in _MARKS:
        if value.startswith(mark):
            try:
                return base64.b64decode(value[len(mark) :], validate=True).decode()
            except (binascii.Error, ValueError):
                break
    raise MessageFormatError("a value is not base64 with its mark", where="message", field=name)


def _read_fields(element: Element, depth: int, left: list[int]) -> Fields:
    _spend(depth, left, len(element.attrib) + len(element))
    found: dict[str, str | Fields] = {
        _local(name): _decode(value, _local(name)[:64]) for name, value in element.attrib.items()
    }
    for child in element:
        name = _local(child.tag)
        if name in found:
            raise MessageFormatError("it appears twice", where="message", field=name[:64])
        found[name] = _read_fields(child, depth - 1, left)
    return found


def _child(element: Element, name: str) -> Element:
    found = [child for child in element if _local(child.tag) == name]
    if len(found) != 1:
        raise MessageFormatError(f"expected one {name}, found {len(found)}", where="message")
    return found[0]


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _parse_xml(raw: bytes) -> Element:
    """An element tree by an expat that knows no document type, hence no entity but XML's own five."""
    builder = TreeBuilder()
    parser = expat.ParserCreate("utf-8", "}")
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH + 4:
            raise MessageFormatError("too deeply nested", where="message")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*_: object) -> NoReturn:
        raise MessageFormatError("document types are refused", where="message")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(raw, True)
    except (expat.ExpatError, ValueError) as error:
        raise MessageFormatError(f"no XML: {error}", where="message") from None
    return builder.close()
