"""The kinds of values that keys take: from text to checked values.

Every parser raises `ValueError` with what is wrong in the field's words, and never with a part of the value in it: two
lines that became one may have brought a password into any value.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from cernvm.core.errors import InvalidInputError
from cernvm.core.home import check_repository_name

_WORD = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_QUOTED = re.compile(r"(['\"])(.*?)\1", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_PROXY = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\])(:([0-9]{1,5}))?/?")
_JID = re.compile(r"[^\s\"&'/:<>@]{1,255}@([^\s/@]{1,255})(/\S{1,255})?")


@dataclass(frozen=True, slots=True)
class Account:
    """A user to create; an empty password means that nobody logs in by one."""

    user: str
    group: str
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run as a user; `argv[0]` is an absolute path."""

    user: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: its name in the schema, what people write, and its parser."""

    name: str
    expected: str
    parse: Callable[[str], object]


def words(text: str) -> tuple[str, ...]:
    """Names such as organisations and plugins, separated by commas or blanks."""
    found = _items(text)
    for number, word in enumerate(found, start=1):
        if not _WORD.fullmatch(word):
            raise ValueError(f"item {number} is no lower-case word")
    return found


def repositories(text: str) -> tuple[str, ...]:
    """Repository names, short (`sft`) or full (`sft.cernvm.test`)."""
    found = _items(text)
    for number, name in enumerate(found, start=1):
        if not _LABEL.fullmatch(name) or name.lower() != name:
            try:
                check_repository_name(name)
            except InvalidInputError:
                raise ValueError(f"item {number} is no repository name") from None
    return found


def accounts(text: str) -> tuple[Account, ...]:
    """`user:group:password`, separated by commas; group and password may be empty or absent."""
    found: list[Account] = []
    for number, item in enumerate(_split_commas(text), start=1):
        user, _, rest = item.partition(":")
        group, _, password = rest.partition(":")
        group = group.strip() or user.strip()
        if user.strip() == "root":
            raise ValueError("root is the system's own user")
        if not _ACCOUNT.fullmatch(user.strip()) or not _ACCOUNT.fullmatch(group):
            raise ValueError(f"user {number} has no valid user or group name")
        found.append(Account(user.strip(), group, password))
    if len({account.user for account in found}) < len(found):
        raise ValueError("a user is named twice")
    return tuple(found)


def environment(text: str) -> tuple[tuple[str, str], ...]:
    """`NAME=value`, separated by commas; a value may contain `=`, and commas inside quotes."""
    found: dict[str, str] = {}
    for number, item in enumerate(_split_outside_quotes(text), start=1):
        name, equals, raw = item.partition("=")
        value = _QUOTED.sub(r"\2", raw.strip())
        if not equals or not _VARIABLE.fullmatch(name.strip()):
            raise ValueError(f"variable {number} is not NAME=value")
        if name.strip() in found:
            raise ValueError(f"variable {number} is given twice")
        if "\n" in value:
            raise ValueError(f"variable {number} has a line break")
        found[name.strip()] = value
    return tuple(found.items())


def command(text: str) -> Command:
    """`user:/path arguments`; quotes as in a shell, and the whole command may be quoted."""
    user, colon, line = text.partition(":")
    if not colon or not _ACCOUNT.fullmatch(user.strip()):
        raise ValueError("there is no user before a colon")
    try:
        argv = shlex.split(line)
        if len(argv) == 1 and any(letter.isspace() for letter in argv[0]):
            argv = shlex.split(argv[0])
    except ValueError:
        raise ValueError("a quote is not closed") from None
    if not argv or not argv[0].startswith("/"):
        raise ValueError("the program is not an absolute path")
    return Command(user.strip(), tuple(argv))


def path(text: str) -> str:
    """An absolute path without `..`."""
    if not text.startswith("/") or ".." in text.split("/") or "\n" in text or ":" in text:
        raise ValueError("it is no absolute path")
    return text


def proxy(text: str) -> str:
    """A chain of proxies in CernVM-FS notation."""
    groups = [[one.strip() for one in group.split("|")] for group in text.split(";")]
    for number, one in enumerate((one for group in groups for one in group), start=1):
        match = _PROXY.fullmatch(one)
        port = int(match[3]) if match and match[3] else 1
        if one not in ("DIRECT", "auto") and (not match or not 0 < port < 65536):
            raise ValueError(f"item {number} is neither a proxy nor DIRECT")
    return ";".join("|".join(group) for group in groups)


def hostname(text: str) -> str:
    """A host name: labels of letters, digits and hyphens joined by dots."""
    if len(text) > 64 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError("it is no host name")
    return text


def endpoint(text: str) -> str:
    """`host:port`, the host a name or an address."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError("there is no port from 1 to 65535 behind a colon")
    is_address = re.fullmatch(r"\[[0-9a-fA-F:.]+\]", host)
    if not is_address and not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ValueError("there is no host before the colon")
    return text


def jid(text: str) -> str:
    """An XMPP address `name@domain`, with or without `/resource`."""
    if not _JID.fullmatch(text):
        raise ValueError("it is no name@domain")
    return text


def secret(text: str) -> str:
    """Any text on one line; never shown."""
    if not text or "\n" in text:
        raise ValueError("it is empty or longer than one line")
    return text


KINDS = {
    kind.name: kind
    for kind in (
        Kind("words", "lower-case words separated by commas or blanks", words),
        Kind("repositories", "repository names separated by commas", repositories),
        Kind("accounts", "user:group:password, separated by commas", accounts),
        Kind("environment", "NAME=value, separated by commas", environment),
        Kind("command", "user:/path/to/program arguments", command),
        Kind("path", "an absolute path", path),
        Kind("proxy", "http://host:port, | between equals, ; between fall-backs, or DIRECT", proxy),
        Kind("hostname", "a host name", hostname),
        Kind("endpoint", "host:port", endpoint),
        Kind("jid", "name@domain", jid),
        Kind("secret", "text on one line", secret),
    )
}


def _split_outside_quotes(text: str) -> list[str]:
    """The pieces between commas and line ends that are not inside quotes; empty ones left out."""
    pieces, quote, start = [], "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in ",\n":
            pieces.append(text[start:place])
            start = place + 1
    pieces.append(text[start:])
    if quote:
        raise ValueError("a quote is not closed")
    return [piece for piece in pieces if piece.strip()]


def _items(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(re.split(r"[,\s]+", text.strip(", \n\t")))) if text.strip() else ()


def _split_commas(text: str) -> list[str]:
    return [item.strip() for item in text.replace("\n", ",").split(",") if item.strip()]
