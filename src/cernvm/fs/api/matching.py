"""Patterns against a repository's names: `*`, `?`, `[...]` within one name, `**` for any number of directories."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

from cernvm.core.errors import NotFoundError
from cernvm.fs.api.files import Files, WrongKindError
from cernvm.fs.api.oserrors import as_os_errors
from cernvm.fs.vfs import Attributes

_MAGIC = frozenset("*?[")


def matching(files: Files, top: PurePosixPath, pattern: str) -> Iterator[PurePosixPath]:
    """The paths below `top` that match, each once; `**` goes through no link.

    Errors: `ValueError` for a pattern that is empty or absolute; `OSError` when a directory cannot be read.
    """
    parts = PurePosixPath(pattern).parts
    if not parts or parts[0] == "/":
        raise ValueError(f"{pattern!r} is no relative pattern")
    seen: set[PurePosixPath] = set()
    for path in _select(files, top, parts):
        if path not in seen:
            seen.add(path)
            yield path


def _select(files: Files, top: PurePosixPath, parts: tuple[str, ...]) -> Iterator[PurePosixPath]:
    if not parts:
        yield top
        return
    first, rest = parts[0], parts[1:]
    if first == "**":
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            yield from _select(files, folder, rest)
            below = [path for path, found in _children(files, folder) if stat.S_ISDIR(found.mode)]
            waiting += reversed(below)
    elif not _MAGIC.intersection(first):
        if _is_there(files, top / first, is_folder=bool(rest)):
            yield from _select(files, top / first, rest)
    else:
        for child, attributes in _children(files, top):
            is_wanted = fnmatch.fnmatchcase(child.name, first)
            if is_wanted and (not rest or _leads_down(files, child, attributes)):
                yield from _select(files, child, rest)


def _children(files: Files, folder: PurePosixPath) -> Iterator[tuple[PurePosixPath, Attributes]]:
    with as_os_errors(str(folder)):
        listed = files.listing(folder)
    for item in listed:
        yield folder / os.fsdecode(item.name), item.attributes


def _leads_down(files: Files, path: PurePosixPath, attributes: Attributes) -> bool:
    if stat.S_ISLNK(attributes.mode):
        return _is_there(files, path, is_folder=True)
    return stat.S_ISDIR(attributes.mode)


def _is_there(files: Files, path: PurePosixPath, *, is_folder: bool) -> bool:
    with as_os_errors(str(path)):
        try:
            attributes = files.attributes(path, follow=is_folder)
        except (NotFoundError, WrongKindError):
            return False
    return not is_folder or stat.S_ISDIR(attributes.mode)
