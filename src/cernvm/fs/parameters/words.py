"""The words of a configuration file: text cut where a shell would cut it, nothing run and nothing replaced yet.

Source: docs/formats/parameters.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cernvm.core.errors import ConfigError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
KEYWORDS = frozenset(
    ("if", "then", "elif", "else", "fi", "export", "readonly", "unset", ".", "source", "[", "[[", "test", ":", "!")
)  # fmt: skip

_REFERENCE = re.compile(
    r"\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<choice>:?[-+])|\})|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
)
_AFTER_SIGNS = re.compile(r"[;|]+([^\s;|]*)")
_OPERATORS = ("&&", "||", ";", "\n")
_UNKNOWN = {
    "`": "it runs a command",
    "&": "it starts something in the background",
    "|": "it is a pipe",
    "(": "it begins a subshell or a function",
    ")": "it ends a subshell or a function",
    "<": "it redirects",
    ">": "it redirects",
}
_MAX_NESTED = 16


@dataclass(frozen=True, slots=True)
class Text:
    """Characters as they stand."""

    text: str


@dataclass(frozen=True, slots=True)
class Reference:
    """`$NAME` or `${NAME}`; with a `choice` (`:-`, `-`, `:+`, `+`), the word to take instead."""

    name: str
    choice: str = ""
    other: tuple[Text | Reference, ...] = ()


Part = Text | Reference


@dataclass(frozen=True, slots=True)
class Word:
    """One word. Shape: `lost` is what an unquoted `;` or `|` in it would have lost in a shell, with its sign."""

    parts: tuple[Part, ...]
    line: int
    is_quoted: bool = False
    lost: str = ""

    @property
    def plain(self) -> str:
        """The text of a word without quotes and references, else nothing: what may be a keyword."""
        if self.is_quoted or not all(isinstance(part, Text) for part in self.parts):
            return ""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Operator:
    """What stands between commands: `;`, `&&`, `||` or the end of a line."""

    sign: str
    line: int


def split_words(text: str, source: str) -> Iterator[Word | Operator]:
    """The words and operators of a document.

    Errors: `ConfigError` naming `source` and line for what this grammar leaves out.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"), source)
    while (token := scanner.next()) is not None:
        yield token


class _Scanner:
    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._at = 0
        self._line = 1

    def next(self) -> Word | Operator | None:
        self._skip_blanks()
        if self._at >= len(self._text):
            return None
        line = self._line
        for sign in _OPERATORS:
            if self._text.startswith(sign, self._at):
                self._advance(len(sign))
                return Operator(sign, line)
        return self._word()

    def _skip_blanks(self) -> None:
        while self._at < len(self._text):
            here = self._text[self._at]
            if here == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._text.startswith("\\\n", self._at):
                self._advance(2)
            elif here in " \t":
                self._at += 1
            else:
                return

    def _word(self) -> Word:
        parts: list[Part] = []
        line, start = self._line, self._at
        is_quoted, lost_from = False, -1
        while self._at < len(self._text):
            here = self._text[self._at]
            if here in " \t\n":
                break
            if here in ";|" and not self._goes_on(start):
                break
            if here in ";|":
                lost_from = self._at if lost_from < 0 else lost_from
                while self._text[self._at] in ";|":  # something else follows them
                    self._take(parts, self._text[self._at])
            elif here == "'":
                is_quoted = True
                self._single_quoted(parts)
            elif here == '"':
                is_quoted = True
                self._double_quoted(parts)
            elif here == "\\":
                self._escaped(parts)
            elif here == "$":
                parts.append(self._reference(0))
            elif here in _UNKNOWN and not self._text.startswith("&&", self._at):
                raise self._error(f"{here!r} is not for configuration: {_UNKNOWN[here]}")
            elif here == "&":
                break
            else:
                self._take(parts, here)
        lost = "" if lost_from < 0 else self._text[lost_from : self._at]
        if self._at == start:
            raise self._error(f"{self._text[self._at]!r} cannot stand here")
        return Word(tuple(_joined(parts)), line, is_quoted, lost)

    def _goes_on(self, start: int) -> bool:
        """Whether `;` or `|` is part of a list that should have been quoted: in `NAME=a;b`, not in `A=1;B=2`."""
        if not ASSIGNMENT.match(self._text, start):
            return False
        rest = _AFTER_SIGNS.match(self._text, self._at)
        following = rest.group(1) if rest else ""
        if self._text.startswith("||", self._at) and not following:
            return False
        return bool(following) and following not in KEYWORDS and not ASSIGNMENT.match(following)

    def _single_quoted(self, parts: list[Part]) -> None:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise self._error("a quote is not closed")
        parts.append(Text(self._text[self._at + 1 : end]))
        self._advance(end + 1 - self._at)

    def _double_quoted(self, parts: list[Part]) -> None:
        opened = self._error("a quote is not closed")
        self._advance(1)
        parts.append(Text(""))
        while self._at < len(self._text):
            here = self._text[self._at]
            if here == '"':
                self._advance(1)
                return
            if here == "\\" and self._text[self._at + 1 : self._at + 2] in tuple('"\\$`\n'):
                self._escaped(parts)
            elif here == "$":
                parts.append(self._reference(0))
            elif here == "`":
                raise self._error(f"'`' is not for configuration: {_UNKNOWN['`']}")
            else:
                self._take(parts, here)
        raise opened

    def _escaped(self, parts: list[Part]) -> None:
        following = self._text[self._at + 1 : self._at + 2]
        if not following:
            raise self._error("nothing follows the backslash")
        self._advance(2)
        if following != "\n":
            parts.append(Text(following))

    def _reference(self, depth: int) -> Part:
        if self._text.startswith("$(", self._at):
            raise self._error("'$(' is not for configuration: it runs a command")
        found = _REFERENCE.match(self._text, self._at + 1)
        if found is None:
            following = self._text[self._at + 1 : self._at + 2]
            if following in ("", " ", "\t", "\n", '"'):
                self._advance(1)
                return Text("$")
            raise self._error(f"'${following}' is no reference that is understood")
        self._advance(found.end() - self._at)
        if found["bare"] or not found["choice"]:
            return Reference(found["bare"] or found["braced"])
        return Reference(found["braced"], found["choice"], self._other(depth + 1))

    def _other(self, depth: int) -> tuple[Part, ...]:
        """The word after `:-` in `${NAME:-word}`, up to its brace."""
        if depth > _MAX_NESTED:
            raise self._error("references are nested too deeply")
        parts: list[Part] = []
        while self._at < len(self._text):
            here = self._text[self._at]
            if here == "}":
                self._advance(1)
                return tuple(_joined(parts))
            if here == "$":
                parts.append(self._reference(depth))
            elif here == "\\":
                self._escaped(parts)
            elif here == "'":
                self._single_quoted(parts)
            elif here in '"`\n':
                break
            else:
                self._take(parts, here)
        raise self._error("a '${' is not closed")

    def _take(self, parts: list[Part], letter: str) -> None:
        parts.append(Text(letter))
        self._advance(1)

    def _advance(self, count: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _error(self, reason: str) -> ConfigError:
        return ConfigError(
            reason,
            source=f"{self._source}:{self._line}",
            advice="write NAME='value'; docs/formats/parameters.md tells what is understood",
        )


def _joined(parts: list[Part]) -> Iterator[Part]:
    text: list[str] = []
    for part in parts:
        if isinstance(part, Text):
            text.append(part.text)
            continue
        if text:
            yield Text("".join(text))
            text = []
        yield part
    if text:
        yield Text("".join(text))
