"""`.cvmfsdirtab`: the rules by which directories get catalogs of their own; pure.

A rule is a pattern of an absolute path, where `*` and `?` stand for anything but a slash and a backslash takes their
meaning away; `!` before it makes an exception, in which they stand for slashes as well, and which may be relative.
Source: docs/formats/repository.md, "Nested catalogs".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cernvm.core.errors import InvalidInputError

DIRTAB_PATH = b"/.cvmfsdirtab"
MAX_BYTES = 1 << 20
_SPECIAL = b"*?\\"


@dataclass(frozen=True, slots=True)
class _Rule:
    parts: tuple[re.Pattern[bytes], ...]  # one for each name of the path


@dataclass(frozen=True, slots=True)
class Dirtab:
    """The rules of a repository; no rules match nothing."""

    rules: tuple[_Rule, ...] = ()
    exceptions: tuple[re.Pattern[bytes], ...] = ()

    def is_matching(self, path: bytes) -> bool:
        """Whether the directory at an absolute path is to have a catalog of its own; the root has one anyway."""
        names = path.split(b"/")[1:]
        found = any(
            len(rule.parts) == len(names)
            and all(part.fullmatch(name) for part, name in zip(rule.parts, names, strict=True))
            for rule in self.rules
        )
        return found and not any(pattern.fullmatch(path) for pattern in self.exceptions)

    def matches_below(
        self, top: bytes, folders: Callable[[bytes], Iterable[bytes]]
    ) -> Iterator[bytes]:
        """All matching directories at and below `top`; `folders` gives the names of those in a directory.

        Only directories on the way to a match are looked into.
        """
        if self.is_matching(top):
            yield top
        depth = top.count(b"/")
        names = top.split(b"/")[1:]
        alive = [
            rule
            for rule in self.rules
            if len(rule.parts) > depth
            and all(part.fullmatch(name) for part, name in zip(rule.parts, names, strict=False))
        ]
        if not alive:
            return
        for name in folders(top):
            if any(rule.parts[depth].fullmatch(name) for rule in alive):
                yield from self.matches_below(top + b"/" + name, folders)


NO_RULES = Dirtab()


def parse_dirtab(data: bytes) -> Dirtab:
    """The rules in a file; `InvalidInputError` naming the line of one that cannot be."""
    rules: dict[bytes, _Rule] = {}
    exceptions: dict[bytes, re.Pattern[bytes]] = {}
    if len(data) > MAX_BYTES:
        raise InvalidInputError(f".cvmfsdirtab is larger than {MAX_BYTES} bytes")
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.strip()
        is_exception = text.startswith(b"!")
        text = text.removeprefix(b"!").strip()
        if not text or (text.startswith(b"#") and not is_exception):
            continue
        text = text.rstrip(b"/") if not text.endswith(b"\\/") else text
        try:
            if is_exception:
                exceptions[text] = re.compile(_expression(text, wild=b".", star=b".*"), re.DOTALL)
            else:
                rules[text] = _rule(text)
        except ValueError as exc:
            raise InvalidInputError(
                f".cvmfsdirtab, line {number}: {exc}",
                advice="write absolute patterns of * and ?, one a line, exceptions after !",
            ) from None
        if text in rules and text in exceptions:
            raise InvalidInputError(f".cvmfsdirtab, line {number}: a rule and its exception")
    return Dirtab(tuple(rules.values()), tuple(exceptions.values()))


def _rule(text: bytes) -> _Rule:
    first, *names = text.split(b"/")
    if first or not names or not all(names):
        raise ValueError("a rule must be an absolute path")
    return _Rule(tuple(re.compile(name_expression(name), re.DOTALL) for name in names))


def name_expression(pattern: bytes) -> bytes:
    """A regular expression of the names that a pattern of one stands for; `ValueError` for a stray backslash."""
    return _expression(pattern, wild=b"[^/]", star=b"[^/]*")


def _expression(text: bytes, *, wild: bytes, star: bytes) -> bytes:
    """A regular expression that matches in linear time: of two stars, the first takes as little as it can for good."""
    pieces = [b""]
    at = 0
    while at < len(text):
        one = text[at : at + 1]
        if one == b"\\":
            at += 1
            one = text[at : at + 1]
            if not one or one not in _SPECIAL:
                raise ValueError("a backslash stands before nothing that has a meaning")
            pieces[-1] += re.escape(one)
        elif one == b"*":
            pieces.append(b"")
        else:
            pieces[-1] += wild if one == b"?" else re.escape(one)
        at += 1
    first, *rest = pieces
    if not rest:
        return first
    *middle, last = rest
    return first + b"".join(b"(?>%s?%s)" % (star, piece) for piece in middle if piece) + star + last
