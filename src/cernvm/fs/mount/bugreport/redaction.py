"""Taking secrets out of text that leaves the machine; better too much than too little.

Source: docs/formats/bugreport.md, "What is taken out".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

MARK = "***"

_SHORTEST_KNOWN = 6  # a known secret that is shorter would black out half of the text
_WORDS = (
    "password|passwd|passphrase|secret|token|credential|authz|authorization|bearer|cookie"
    "|api_?key|private_?key|access_?key|signing_?key|session_?key|x-amz-signature"
)
_ANY = re.IGNORECASE
_NAME = re.compile(_WORDS, _ANY)
_RULES = (
    # keys in PEM, as they are, in JSON, and cut at either end
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}KEY-----|\Z)",
            re.DOTALL,
        ),
        MARK,
    ),
    (re.compile(r"^[A-Za-z0-9+/=]{48,}$", re.MULTILINE), MARK),
    # user and password of a URL; a password may hold an @
    (re.compile(r"(://)[^\s'\"|;<>]{0,4096}@"), rf"\1{MARK}@"),
    (
        re.compile(
            rf"([?&][\w.-]{{0,40}}(?:{_WORDS}|sig|signature)[\w.-]{{0,40}}=)[^&\s'\"]+", _ANY
        ),
        rf"\1{MARK}",
    ),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", _ANY), rf"\1 {MARK}"),
    (re.compile(r"\beyJ[\w-]{4,}\.[\w-]{4,}\.?[\w-]*"), MARK),
    (re.compile(r"\bA[KS]IA[0-9A-Z]{12,}\b"), MARK),
    # NAME=value, "name": "value", name: value to the end of its line
    (
        re.compile(
            rf"(?<![?&\w.-])(\\?[\"']?[\w.-]{{0,40}}(?:{_WORDS})[\w.-]{{0,40}}\\?[\"']?[ \t]*[:=][ \t]*)"
            r"(\\?\"(?:[^\"\\\n]|\\[^\"])*\\?\"|'[^'\n]*'|[^\n]+)",
            _ANY,
        ),
        rf"\1{MARK}",
    ),
)


def is_secret(name: str) -> bool:
    """Whether what goes by this name is nobody's business."""
    return _NAME.search(name) is not None


class Redactor:
    """Blacks out what looks like a secret, and whatever is known to be one."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        values = {value.strip() for value in known if len(value.strip()) >= _SHORTEST_KNOWN}
        longest_first = sorted(values, key=lambda value: (-len(value), value))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if values else None

    def redact(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(MARK, text)
        for pattern, mark in _RULES:
            text = pattern.sub(mark, text)
        return text

    def redact_page(self, text: str) -> str:
        """As `redact`; JSON stays JSON, and whatever goes by a secret's name goes whole."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return self.redact(text)
        return json.dumps(self._redacted(value), indent=1) + "\n"

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                self.redact(name): MARK if is_secret(name) else self._redacted(item)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._redacted(item) for item in value]
        return self.redact(value) if isinstance(value, str) else value
