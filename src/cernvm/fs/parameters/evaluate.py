"""Carrying out the commands of configuration files, one file after the other, as a shell that only knows variables.

Everything is bounded: the size of a value, the number of included files, their depth. There are no loops.
Source: docs/formats/parameters.md
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import PurePosixPath

from cernvm.core.errors import ConfigError
from cernvm.fs.parameters import grammar
from cernvm.fs.parameters.documents import Documents
from cernvm.fs.parameters.grammar import Command
from cernvm.fs.parameters.values import PREFIX, Origin, Setting, Warned
from cernvm.fs.parameters.words import Part, Text, Word

MAX_VALUE_CHARACTERS = 64 * 1024
MAX_FILES = 256
MAX_NAMES = 4096
MAX_WARNINGS = 500
_MAX_INCLUDES_DEEP = 8
_MAX_WORK_CHARACTERS = 16 * 1024 * 1024
_FILE_TESTS = {"-f": "f", "-d": "d", "-e": "e", "-r": "e", "-s": "f"}
_NUMBER_TESTS = {
    "-eq": int.__eq__,
    "-ne": int.__ne__,
    "-lt": int.__lt__,
    "-le": int.__le__,
    "-gt": int.__gt__,
    "-ge": int.__ge__,
}


class Evaluator:
    """Variables as files set them, one after the other; `settings` are those named `CVMFS_…`."""

    def __init__(self, documents: Documents, environment: Mapping[str, str]) -> None:
        self.settings: dict[str, Setting] = {}
        self.warnings: list[Warned] = []
        self.files: list[str] = []
        self._documents = documents
        self._values = dict(environment)
        self._final: dict[str, Origin] = {}
        self._folder = PurePosixPath("/")
        self._sources: list[str] = []
        self._work = 0

    def run_file(self, path: PurePosixPath) -> bool:
        """Carry out the file at `path`, in whose folder its relative names begin; False if there is none.

        Errors: `ConfigError` naming file and line.
        """
        self._folder = path.parent
        return self._run(path)

    def finish(self, name: str) -> None:
        """Let `name` keep its value, or having none, from here on; whoever sets it differently is told."""
        setting = self.settings.get(name)
        self._final.setdefault(name, setting.origin if setting else Origin("the system"))

    def assign(self, name: str, value: str, origin: Origin) -> None:
        """Set a variable."""
        if name in self._final:
            if self._values.get(name, "") != value:
                self._warn(origin, f"{name} keeps the value of {self._final[name]}")
            return
        if len(value) > MAX_VALUE_CHARACTERS:
            raise _error(origin, f"{name} is longer than {MAX_VALUE_CHARACTERS} characters")
        if "\n" in value and name.startswith(PREFIX):
            raise _error(origin, f"{name} has more than one line")
        if len(self._values) >= MAX_NAMES and name not in self._values:
            raise _error(origin, f"more than {MAX_NAMES} names are set")
        self._values[name] = value
        if name.startswith(PREFIX):
            before = self.settings.get(name)
            earlier = (*before.earlier, (before.value, before.origin))[-8:] if before else ()
            self.settings[name] = Setting(value, origin, earlier)

    def _run(self, path: PurePosixPath) -> bool:
        data = self._documents.read(path)
        if data is None:
            return False
        source = str(path)
        if len(self.files) >= MAX_FILES or len(self._sources) >= _MAX_INCLUDES_DEEP:
            raise ConfigError("too many files include each other", source=source)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigError("it is no UTF-8", source=f"{source}:{line}") from None
        self.files.append(source)
        self._sources.append(source)
        self._do(grammar.parse(text, source))
        self._sources.pop()
        return True

    def _do(self, command: Command) -> bool:
        """Carry out a command; whether it succeeded."""
        match command:
            case grammar.Sequence(commands):
                succeeded = True
                for each in commands:
                    succeeded = self._do(each)
                return succeeded
            case grammar.Assign():
                self._assign(command)
            case grammar.Finish(name):
                self.finish(name)
            case grammar.Unset(name, line):
                self._unset(name, self._origin(line))
            case grammar.Include(word):
                self._include(word)
            case grammar.Test(words, line):
                return self._test(words, line)
            case grammar.Constant(is_true):
                return is_true
            case grammar.Not(inner):
                return not self._do(inner)
            case grammar.Chain():
                return self._chain(command)
            case grammar.If(branches, otherwise):
                for condition, body in branches:
                    if self._do(condition):
                        return self._do(body)
                return self._do(otherwise)
        return True

    def _chain(self, chain: grammar.Chain) -> bool:
        succeeded = self._do(chain.first)
        for sign, command in chain.rest:
            if succeeded == (sign == "&&"):
                succeeded = self._do(command)
        return succeeded

    def _assign(self, command: grammar.Assign) -> None:
        name, word = command.name, command.value
        value = self._expand(word)
        origin = self._origin(word.line)
        if word.lost:
            kept = "" if word.lost.startswith("|") else value.removesuffix(word.lost)
            self._warn(
                origin,
                f"{name} has an unquoted {word.lost[0]!r}: a shell would have kept {kept!r}, "
                f"here it is {value!r}; quote it",
            )
        self.assign(name, value, origin)
        if command.is_final:
            self.finish(name)

    def _unset(self, name: str, origin: Origin) -> None:
        if name in self._final:
            self._warn(origin, f"{name} keeps the value of {self._final[name]}")
            return
        self._values.pop(name, None)
        self.settings.pop(name, None)

    def _include(self, word: Word) -> None:
        name = self._expand(word)
        path = PurePosixPath(os.path.normpath(self._folder / name))
        if not self._run(path):
            raise _error(self._origin(word.line), f"there is no file {path} to include")

    def _test(self, words: tuple[Word, ...], line: int) -> bool:
        texts = [self._expand(word) for word in words]
        origin = self._origin(line)
        for sign, combine in (("-o", any), ("-a", all)):
            places = [
                i for i, word in enumerate(words) if word.plain == sign and 0 < i < len(words) - 1
            ]
            if places:
                bounds = [-1, *places, len(words)]
                return combine(
                    [
                        self._test(words[before + 1 : after], line)
                        for before, after in pairwise(bounds)
                    ]
                )
        signs = 0
        while signs < len(words) - 1 and words[signs].plain == "!":
            signs += 1
        if signs:
            return self._test(words[signs:], line) == (signs % 2 == 0)
        match texts:
            case [text]:
                return bool(text)
            case ["-z", text]:
                return not text
            case ["-n", text]:
                return bool(text)
            case [sign, text] if sign in _FILE_TESTS:
                path = PurePosixPath(os.path.normpath(self._folder / text))
                return self._documents.has(path, kind=_FILE_TESTS[sign])
            case [left, "=" | "==", right]:
                return left == right
            case [left, "!=", right]:
                return left != right
            case [left, sign, right] if sign in _NUMBER_TESTS:
                try:
                    return _NUMBER_TESTS[sign](int(left[:20]), int(right[:20]))
                except ValueError:
                    raise _error(origin, "this test compares numbers") from None
        raise _error(origin, "this test is not understood")

    def _expand(self, word: Word) -> str:
        value = "".join(self._part(part) for part in word.parts)
        self._work += len(value)
        if len(value) > MAX_VALUE_CHARACTERS or self._work > _MAX_WORK_CHARACTERS:
            raise _error(
                self._origin(word.line), f"a value is longer than {MAX_VALUE_CHARACTERS} characters"
            )
        return value

    def _part(self, part: Part) -> str:
        if isinstance(part, Text):
            return part.text
        value = self._values.get(part.name)
        if not part.choice:
            return value or ""
        counts = bool(value) if part.choice.startswith(":") else value is not None
        takes_other = counts == part.choice.endswith("+")
        return "".join(map(self._part, part.other)) if takes_other else value or ""

    def _origin(self, line: int) -> Origin:
        return Origin(self._sources[-1], line)

    def _warn(self, origin: Origin, what: str) -> None:
        warned = Warned(origin, what)
        if len(self.warnings) < MAX_WARNINGS and warned not in self.warnings:
            self.warnings.append(warned)


def _error(origin: Origin, reason: str) -> ConfigError:
    return ConfigError(reason, source=str(origin))
