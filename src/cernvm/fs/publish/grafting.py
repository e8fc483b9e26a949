"""Making grafts: the names that a file's objects have, or would have, in a repository."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from cernvm.core.digest import Digest
from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.compress import Compression
from cernvm.fs.publish.content import Content, open_writer
from cernvm.fs.publish.flow import recipe_of
from cernvm.fs.publish.grafts import Graft
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.source import Found, translate
from cernvm.fs.store.memory import MemoryStore

_BLOCK_BYTES = 1 << 20


def graft_of(repository: Repository, file: Path, compression: Compression) -> Graft:
    """What `file` consists of; nothing is stored. Errors: those of reading it."""
    place = os.fsencode(file)
    try:
        found = Found(b"", place, file.stat())
    except OSError as exc:
        raise translate(exc, place) from exc
    if not found.is_file:
        raise InvalidInputError(f"{file} is no file")
    is_plain = compression is Compression.NONE
    recipe = replace(
        recipe_of(repository), compression=compression, is_external=True, has_whole=not is_plain
    )
    made: list[Content] = []
    with open_writer(MemoryStore(), recipe) as writer:
        writer.add(found, lambda _status, content: made.append(content))
    (content,) = made
    digest = _plain_digest(repository, file) if is_plain else content.digest
    if digest is None:
        raise InvalidInputError(f"{file} is too large to be named as a whole")
    return Graft(content.size, digest, content.chunks, compression)


def _plain_digest(repository: Repository, file: Path) -> Digest:
    hasher = repository.algorithm.hasher()
    with file.open("rb", buffering=0) as source:
        while block := source.read(_BLOCK_BYTES):
            hasher.update(block)
    return repository.algorithm.finish(hasher)
