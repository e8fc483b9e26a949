"""Templates of user-data: `[[VAR]]` and `[[IF VAR]]…[[ELSE]]…[[ENDIF]]`, with nesting.

`[[` followed at once by a letter begins a tag, which ends with `]]` on the same line; so a shell's `[[ -n "$X" ]]`
and a pattern's `[[:space:]]` are text. A condition is true when its variable is given and neither empty nor `0`.
Values are put in as they are and never expanded again. Source: docs/formats/user-data.md, "Templates".
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from cernvm.core.errors import ContextFormatError

_TAG = re.compile(r"\[\[([A-Za-z_][^\[\]\n]*)\]\]")
_OPEN_TAG = re.compile(r"\[\[(?:IF|ELSE|ENDIF)\b")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")


class _Kind(Enum):
    TEXT = "text"
    VALUE = "value"
    IF = "IF"
    ELSE = "ELSE"
    ENDIF = "ENDIF"


@dataclass(frozen=True, slots=True)
class _Token:
    """A piece of a template; `body` is its text, or the variable a tag names."""

    kind: _Kind
    body: str
    at: int


def render(
    text: str, variables: Mapping[str, str], *, lenient: bool = False, where: str = "template"
) -> str:
    """The user-data that a template gives with these variables.

    `lenient` behaves as the original: an unknown variable is empty, a tag without its partner vanishes.
    Errors: `ContextFormatError` with the line of an unknown variable, a malformed or unbalanced tag, or a value that
    would begin a new line; it never shows a value.
    """
    if not lenient:
        _refuse_open_tags(text, where)
    tokens = _balanced(list(_tokens(text, lenient, where)), text, lenient, where)
    pieces: list[str] = []
    shown = [True]  # one entry per open block, and one for the template itself
    for token in tokens:
        match token.kind:
            case _Kind.TEXT if shown[-1]:
                pieces.append(token.body)
            case _Kind.VALUE if shown[-1]:
                pieces.append(_value(token, variables, text, lenient, where))
            case _Kind.IF:
                shown.append(shown[-1] and variables.get(token.body, "") not in ("", "0"))
            case _Kind.ELSE:
                shown[-1] = shown[-2] and not shown[-1]
            case _Kind.ENDIF:
                shown.pop()
            case _:
                pass
    return "".join(pieces)


def variables_of(text: str) -> frozenset[str]:
    """The variables that a template names, in values and in conditions."""
    return frozenset(
        token.body
        for token in _tokens(text, True, "template")
        if token.kind in (_Kind.VALUE, _Kind.IF)
    )


def _refuse_open_tags(text: str, where: str) -> None:
    closed = {match.start() for match in _TAG.finditer(text)}
    for match in _OPEN_TAG.finditer(text):
        if match.start() not in closed:
            raise _error(f"{match[0]} is not closed by ]] on its line", text, match.start(), where)


def _tokens(text: str, lenient: bool, where: str) -> Iterator[_Token]:
    end = 0
    for match in _TAG.finditer(text):
        token = _tag(match[1], match.start())
        if token is None:
            if not lenient:
                raise _error(
                    f"[[{match[1]}]] is no tag",
                    text,
                    match.start(),
                    where,
                    "write [[VAR]], [[IF VAR]], [[ELSE]] or [[ENDIF]]; "
                    "put a space after [[ where it is meant as text",
                )
            continue  # stays text: the next piece begins before it
        if match.start() > end:
            yield _Token(_Kind.TEXT, text[end : match.start()], end)
        yield token
        end = match.end()
    if end < len(text):
        yield _Token(_Kind.TEXT, text[end:], end)


def _tag(content: str, at: int) -> _Token | None:
    words = content.split()
    match words:
        case ["ELSE" | "ENDIF" as word]:
            return _Token(_Kind(word), "", at)
        case ["IF", name] if _NAME.fullmatch(name):
            return _Token(_Kind.IF, name, at)
        case [name] if name != "IF" and _NAME.fullmatch(name):
            return _Token(_Kind.VALUE, name, at)
    return None


def _balanced(tokens: list[_Token], text: str, lenient: bool, where: str) -> list[_Token]:
    """The tokens, every block of which is whole; partnerless tags are errors, or dropped when lenient."""
    dropped: set[int] = set()
    blocks: list[list[int]] = []  # the indices of each open block's IF and, once seen, ELSE
    for index, token in enumerate(tokens):
        if token.kind is _Kind.IF:
            blocks.append([index])
        elif token.kind in (_Kind.ELSE, _Kind.ENDIF):
            is_second_else = token.kind is _Kind.ELSE and blocks and len(blocks[-1]) == 2
            if not blocks or is_second_else:
                if not lenient:
                    reason = "is the second of its block" if is_second_else else "has no [[IF …]]"
                    raise _error(f"[[{token.kind.value}]] {reason}", text, token.at, where)
                dropped.add(index)
            elif token.kind is _Kind.ELSE:
                blocks[-1].append(index)
            else:
                blocks.pop()
    if blocks and not lenient:
        opened = tokens[blocks[-1][0]]
        raise _error(f"[[IF {opened.body}]] has no [[ENDIF]]", text, opened.at, where)
    dropped.update(index for block in blocks for index in block)
    return [token for index, token in enumerate(tokens) if index not in dropped]


def _value(
    token: _Token, variables: Mapping[str, str], text: str, lenient: bool, where: str
) -> str:
    if token.body not in variables:
        if lenient:
            return ""
        raise _error(
            f"the variable {token.body} has no value",
            text,
            token.at,
            where,
            _hint(token, variables),
        )
    value = variables[token.body]
    if not lenient and _CONTROL.search(value):
        raise _error(
            f"the value of {token.body} has a line break or control character",
            text,
            token.at,
            where,
            "pass it on one line, in base64 where the key allows it",
        )
    return value


def _hint(token: _Token, variables: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(token.body, variables, 1)
    meant = f"did you mean {near[0]}? Else give" if near else "give"
    return f"{meant} {token.body}=VALUE, or put it inside [[IF {token.body}]]…[[ENDIF]]"


def _error(reason: str, text: str, at: int, where: str, advice: str = "") -> ContextFormatError:
    return ContextFormatError(reason, where=where, line=text.count("\n", 0, at) + 1, advice=advice)
