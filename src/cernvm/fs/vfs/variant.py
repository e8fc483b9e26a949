"""Variant symlinks: targets that depend on the machine, `$(NAME)` or `$(NAME:-default)`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_VARIABLE = re.compile(rb"\$\((?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^)]*))?\)")


def expand(target: bytes, variables: Mapping[str, str] | None) -> bytes:
    """The target with variables replaced; one that is not set becomes its default, or nothing. None: as it is stored.

    >>> expand(b"$(ARCH:-x86_64)/lib", {}), expand(b"$(ARCH:-x86_64)/lib", {"ARCH": "aarch64"})
    (b'x86_64/lib', b'aarch64/lib')
    """
    if variables is None or b"$(" not in target:
        return target

    def value(match: re.Match[bytes]) -> bytes:
        known = variables.get(match["name"].decode("ascii"))
        return (match["default"] or b"") if known is None else os.fsencode(known)

    return _VARIABLE.sub(value, target)
