"""The commands of a configuration file: assignments, includes and conditions, parsed and not yet carried out.

Source: docs/formats/parameters.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cernvm.core.errors import ConfigError
from cernvm.fs.parameters.words import ASSIGNMENT, NAME, Operator, Text, Word, split_words

MAX_DOCUMENT_CHARACTERS = 256 * 1024

_MAX_NESTED = 32
_RESERVED = frozenset({"then", "elif", "else", "fi"})


@dataclass(frozen=True, slots=True)
class Assign:
    """`NAME=value`, also after `export` or `readonly`."""

    name: str
    value: Word
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """`readonly NAME`: it keeps its value from here on."""

    name: str


@dataclass(frozen=True, slots=True)
class Unset:
    """`unset NAME`."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Include:
    """`. FILE`."""

    path: Word


@dataclass(frozen=True, slots=True)
class Test:
    """`[ … ]`."""

    words: tuple[Word, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Constant:
    """`true`, `false`, `:` and whatever always succeeds."""

    is_true: bool


@dataclass(frozen=True, slots=True)
class Not:
    """`! command`."""

    command: Command


@dataclass(frozen=True, slots=True)
class Chain:
    """`a && b || c`: commands, each but the first with the sign before it."""

    first: Command
    rest: tuple[tuple[str, Command], ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Commands that follow each other."""

    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class If:
    """`if … then … elif … then … else … fi`."""

    branches: tuple[tuple[Sequence, Sequence], ...]
    otherwise: Sequence


Command = Assign | Finish | Unset | Include | Test | Constant | Not | Chain | Sequence | If


def parse(text: str, source: str) -> Sequence:
    """The commands of a document, in order.

    Errors: `ConfigError` naming `source` and line for a command that this grammar leaves out.
    """
    if len(text) > MAX_DOCUMENT_CHARACTERS:
        raise ConfigError(f"it is longer than {MAX_DOCUMENT_CHARACTERS} characters", source=source)
    if "\0" in text:
        raise ConfigError("it holds a zero byte", source=source)
    return _Parser(text, source).document()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._tokens: Iterator[Word | Operator] = split_words(text, source)
        self._line = 1
        self._here: Word | Operator | None = None
        self._depth = 0
        self._step()

    def document(self) -> Sequence:
        commands = self._sequence(frozenset())
        if self._here is not None:
            raise self._error("this cannot stand here")
        return commands

    def _sequence(self, ends: frozenset[str]) -> Sequence:
        self._depth += 1
        if self._depth > _MAX_NESTED:
            raise self._error("conditions are nested too deeply")
        commands: list[Command] = []
        while True:
            while isinstance(self._here, Operator) and self._here.sign in (";", "\n"):
                self._step()
            if self._here is None or self._plain in ends:
                self._depth -= 1
                return Sequence(tuple(commands))
            commands.append(self._chain())
            if self._here is not None and not isinstance(self._here, Operator):
                raise self._error("a value with spaces must be quoted")

    def _chain(self) -> Command:
        first = self._command()
        rest: list[tuple[str, Command]] = []
        while isinstance(self._here, Operator) and self._here.sign in ("&&", "||"):
            sign = self._here.sign
            self._step()
            while isinstance(self._here, Operator) and self._here.sign == "\n":
                self._step()
            rest.append((sign, self._command()))
        return Chain(first, tuple(rest)) if rest else first

    def _command(self) -> Command:
        word = self._here
        if not isinstance(word, Word):
            raise self._error("a command is missing")
        if _assigned_name(word):
            return self._assignments(is_final=False)
        match word.plain:
            case "if":
                return self._if()
            case "!":
                is_not = False
                while self._plain == "!":
                    is_not = not is_not
                    self._step()
                command = self._command()
                return Not(command) if is_not else command
            case "export" | "readonly":
                self._step()
                return self._assignments(is_final=word.plain == "readonly")
            case "unset":
                self._step()
                return Sequence(tuple(Unset(self._name(each), each.line) for each in self._words()))
            case "." | "source":
                self._step()
                files = self._words()
                if len(files) != 1:
                    raise self._error("name one file to include", line=word.line)
                return Include(files[0])
            case "[" | "[[" | "test":
                return self._test(word.plain, word.line)
            case "true" | "false" | ":":
                self._step()
                self._words()
                return Constant(word.plain != "false")
        told = f"{word.plain!r} is" if word.plain else "this is"
        raise self._error(f"{told} a command, and configuration is read, not run")

    def _assignments(self, *, is_final: bool) -> Command:
        commands: list[Command] = []
        for word in self._words():
            name = _assigned_name(word)
            if name:
                commands.append(Assign(name, _value(word, name), is_final))
            elif commands and not is_final:
                raise self._error("a value with spaces must be quoted", line=word.line)
            elif is_final:
                commands.append(Finish(self._name(word)))
            else:
                self._name(word)  # `export NAME`: all names are exported
        return commands[0] if len(commands) == 1 else Sequence(tuple(commands))

    def _if(self) -> Command:
        branches: list[tuple[Sequence, Sequence]] = []
        otherwise = Sequence(())
        opened = self._line
        while True:
            self._step()
            condition = self._sequence(frozenset({"then"}))
            self._expect("then", opened)
            branches.append((condition, self._sequence(_RESERVED - {"then"})))
            if self._plain != "elif":
                break
        if self._plain == "else":
            self._step()
            otherwise = self._sequence(frozenset({"fi"}))
        self._expect("fi", opened)
        return If(tuple(branches), otherwise)

    def _test(self, opening: str, line: int) -> Command:
        self._step()
        closing = {"[": "]", "[[": "]]"}.get(opening)
        words: list[Word] = []
        while isinstance(self._here, Word) and (closing is None or self._plain != closing):
            words.append(self._here)
            self._step()
        if closing is not None:
            if self._plain != closing:
                raise self._error(f"'{opening}' is not closed", line=line)
            self._step()
        return Test(tuple(words), line)

    def _words(self) -> list[Word]:
        words: list[Word] = []
        while isinstance(self._here, Word):
            words.append(self._here)
            self._step()
        return words

    def _name(self, word: Word) -> str:
        if not NAME.fullmatch(word.plain):
            raise self._error("a name is expected here", line=word.line)
        return word.plain

    @property
    def _plain(self) -> str:
        return self._here.plain if isinstance(self._here, Word) else ""

    def _expect(self, word: str, opened: int) -> None:
        if self._plain != word:
            raise self._error(f"the 'if' of line {opened} has no '{word}'")
        self._step()

    def _step(self) -> None:
        self._here = next(self._tokens, None)
        if self._here is not None:
            self._line = self._here.line

    def _error(self, reason: str, *, line: int = 0) -> ConfigError:
        return ConfigError(
            reason,
            source=f"{self._source}:{line or self._line}",
            advice="write NAME='value'; docs/formats/parameters.md tells what is understood",
        )


def _assigned_name(word: Word) -> str:
    first = word.parts[0] if word.parts else None
    found = ASSIGNMENT.match(first.text) if isinstance(first, Text) else None
    return found.group()[:-1] if found else ""


def _value(word: Word, name: str) -> Word:
    first = word.parts[0]
    assert isinstance(first, Text)
    rest = first.text[len(name) + 1 :]
    return replace(word, parts=(*((Text(rest),) if rest else ()), *word.parts[1:]))
