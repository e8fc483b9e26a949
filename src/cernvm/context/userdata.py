"""User-data taken apart: sections, keys, values, and for every line who reads it.

The dialect is amiconfig's: `[section]` headers, `key = value` options, `#` and `;` comments. A value goes on over
indented lines, over lines after an empty value, and over lines inside an open quote; nothing is dropped in silence.
Source: docs/formats/user-data.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from cernvm.context.finding import Finding, Severity

MAX_LINES = 4000

_HEADER = re.compile(r"\s*\[([^\[\]]*)\]\s*(?:[#;].*)?")
_OPTION = re.compile(r"(\s*)([A-Za-z][A-Za-z0-9_.-]*)\s*=\s*(.*)")
_COLON_OPTION = re.compile(r"(\s*)([A-Za-z][A-Za-z0-9_.-]*)\s*:\s*(.*)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")
_MIME = re.compile(r"(MIME-Version|Content-Type)\s*:", re.IGNORECASE)


class Reader(StrEnum):
    """Who reads a line of user-data."""

    GUEST = "guest"
    BOOT_LOADER = "boot loader"
    CLOUD_INIT = "cloud-init"
    SHELL = "shell"
    PEOPLE = "people"  # comments and empty lines
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Option:
    """A key and what is written behind it; lines of a long value are joined by line feeds."""

    key: str
    value: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Section:
    """A header and the options below it, in the order written; the same name may come again."""

    name: str
    line: int
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class UserData:
    """All sections, the reader of each line, and what was found on the way."""

    sections: tuple[Section, ...]
    readers: tuple[Reader, ...]
    findings: tuple[Finding, ...]


def parse(text: str) -> UserData:
    """Take a text apart; never raises: what cannot be read is a finding."""
    state = _State()
    if text.startswith("\ufeff"):
        text = text[1:]
        state.say(1, Severity.NOTE, "begins with a byte-order mark, which is ignored")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if len(lines) > MAX_LINES:
        state.say(MAX_LINES + 1, Severity.ERROR, f"longer than {MAX_LINES} lines")
        lines = lines[:MAX_LINES]
    if any(line.endswith("\r") for line in lines):
        lines = [line.removesuffix("\r") for line in lines]
        state.say(1, Severity.NOTE, "has Windows line ends, which are ignored")
    if not _is_for_others(lines, state):
        for number, line in enumerate(lines, start=1):
            state.readers.append(_read_line(line, number, state))
        if state.block == "ucernvm":
            state.say(len(lines), Severity.ERROR, "[ucernvm-begin] has no [ucernvm-end]")
    return UserData(state.finished(), tuple(state.readers), tuple(state.findings))


@dataclass(slots=True)
class _Growing:
    """An option that later lines may still continue."""

    key: str
    line: int
    column: int
    indent: int
    parts: list[str] = field(default_factory=list)
    quote: str = ""  # the quote that is still open

    @property
    def expects_more(self) -> bool:
        return bool(self.quote) or not any(self.parts)

    def add(self, part: str) -> None:
        self.parts.append(part)
        for letter in part:
            if self.quote:
                self.quote = "" if letter == self.quote else self.quote
            elif letter in "'\"":
                self.quote = letter


@dataclass(slots=True)
class _State:
    sections: list[tuple[str, int, list[_Growing]]] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    open_option: _Growing | None = None
    block: str = ""  # "ucernvm" or "script" while inside one

    def say(
        self,
        line: int,
        severity: Severity,
        message: str,
        suggestion: str = "",
        reader: Reader = Reader.NOBODY,
    ) -> None:
        self.findings.append(Finding(line, severity, message, suggestion=suggestion, reader=reader))

    def finished(self) -> tuple[Section, ...]:
        return tuple(
            Section(
                name,
                line,
                tuple(
                    Option(one.key, "\n".join(one.parts).strip(), one.line, one.column)
                    for one in options
                ),
            )
            for name, line, options in self.sections
        )


def _is_for_others(lines: list[str], state: _State) -> bool:
    """Whether the whole text is written for cloud-init; then nobody here reads it, and a finding says so."""
    first = lines[0] if lines else ""
    if first.startswith("#cloud-config") or _MIME.match(first):
        kind = "cloud-config" if first.startswith("#") else "a MIME message"
        state.readers.extend(Reader.CLOUD_INIT for _ in lines)
        state.say(
            1,
            Severity.ERROR,
            f"this is {kind}, which this version does not read",
            "write it as sections and keys: `cvm context keys` lists them",
            reader=Reader.CLOUD_INIT,
        )
        return True
    return False


def _read_line(line: str, number: int, state: _State) -> Reader:
    if bad := _CONTROL.search(line):
        state.say(number, Severity.ERROR, f"has the control character {bad[0]!r}")
        state.open_option = None
        return Reader.NOBODY
    if state.block:
        return _read_in_block(line, number, state)
    stripped = line.strip()
    if stripped.startswith("#!") and not state.sections:
        state.block = "script"
        state.say(
            number,
            Severity.ERROR,
            "a script, which this version does not run",
            "put the program into a repository and name it in contextualization_command",
            reader=Reader.SHELL,
        )
        return Reader.SHELL
    if not stripped:
        state.open_option = None
        return Reader.PEOPLE
    if stripped[0] in "#;":
        return Reader.PEOPLE
    if stripped[0] == "[":
        return _read_header(line, number, state)
    return _read_option(line, number, state)


def _read_in_block(line: str, number: int, state: _State) -> Reader:
    if state.block == "ucernvm":
        if line.strip().lower() == "[ucernvm-end]":
            state.block = ""
        return Reader.BOOT_LOADER
    if line.startswith("exit"):
        state.block = ""
        return Reader.SHELL
    if (header := _HEADER.fullmatch(line)) and header[1].strip():
        state.block = ""  # a script without `exit` ends where the sections begin
        return _read_header(line, number, state)
    return Reader.SHELL


def _read_header(line: str, number: int, state: _State) -> Reader:
    state.open_option = None
    if line.strip().startswith("[["):
        return _refuse(number, state, "this is a template", "render it first: `cvm context render`")
    match = _HEADER.fullmatch(line)
    name = match[1].strip().lower() if match else ""
    if not name:
        return _refuse(number, state, "no section header", "write [name] alone on the line")
    if name == "ucernvm-begin":
        state.block = "ucernvm"
        state.say(
            number,
            Severity.NOTE,
            "read by the µCernVM boot loader only; a container instance has none",
            reader=Reader.BOOT_LOADER,
        )
        return Reader.BOOT_LOADER
    state.sections.append((name, number, []))
    return Reader.GUEST


def _read_option(line: str, number: int, state: _State) -> Reader:
    grown = state.open_option
    indent = len(line) - len(line.lstrip())
    if grown and indent > grown.indent:
        grown.add(line.strip())
        return Reader.GUEST
    match = _OPTION.fullmatch(line)
    if match is None and grown and grown.expects_more:
        grown.add(line.strip())
        state.say(
            number,
            Severity.NOTE,
            f"continues the value of line {grown.line}",
            "indent it to say so",
            reader=Reader.GUEST,
        )
        return Reader.GUEST
    match = match or _COLON_OPTION.fullmatch(line)
    if match is None:
        state.open_option = None
        return _refuse(
            number,
            state,
            "neither a section, nor `key = value`, nor the rest of a value",
            "indent it to continue the line above, or put # before it",
        )
    if not state.sections:
        return _refuse(number, state, "stands before the first section", "write [cernvm] above it")
    option = _Growing(match[2].lower(), number, match.start(3) + 1, indent)
    option.add(match[3].strip())
    state.sections[-1][2].append(option)
    state.open_option = option
    return Reader.GUEST


def _refuse(number: int, state: _State, message: str, suggestion: str) -> Reader:
    state.say(number, Severity.ERROR, message, suggestion)
    return Reader.NOBODY
