"""Where configuration is read from: folders of this machine, and what lies in a repository."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from cernvm.core.errors import ConfigError, DeniedError

MAX_FILE_BYTES = 1024 * 1024
MAX_LISTED = 1000


class Documents(Protocol):
    """Small files by absolute path. Errors: `UnavailableError` where a network is behind them."""

    def read(self, path: PurePosixPath) -> bytes | None:
        """A regular file's content; None if there is none. Errors: `ConfigError` when it is too large."""

    def names(self, folder: PurePosixPath) -> Sequence[str]:
        """The names in a folder, sorted; none if there is no such folder."""

    def has(self, path: PurePosixPath, *, kind: str) -> bool:
        """Whether there is a file (`f`), a folder (`d`) or anything (`e`) at `path`."""


class FolderDocuments:
    """This machine's files. What is no regular file (a FIFO would hang its reader) is taken for absent."""

    def read(self, path: PurePosixPath) -> bytes | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise DeniedError(f"{path} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        with open(descriptor, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"it is larger than {MAX_FILE_BYTES} bytes", source=str(path))
        return data

    def names(self, folder: PurePosixPath) -> Sequence[str]:
        try:
            return sorted(path.name for path in Path(folder).iterdir())[:MAX_LISTED]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise DeniedError(f"{folder} cannot be listed: {error.strerror}") from error

    def has(self, path: PurePosixPath, *, kind: str) -> bool:
        there = Path(path)
        return {"f": there.is_file, "d": there.is_dir}.get(kind, there.exists)()


@dataclass(frozen=True, slots=True)
class MemoryDocuments:
    """Documents in memory: the twin of the others."""

    files: Mapping[str, bytes | str] = field(default_factory=dict)

    def read(self, path: PurePosixPath) -> bytes | None:
        content = self.files.get(str(path))
        return content.encode() if isinstance(content, str) else content

    def names(self, folder: PurePosixPath) -> Sequence[str]:
        depth = len(folder.parts)
        paths = (PurePosixPath(path) for path in self.files)
        return sorted({path.parts[depth] for path in paths if folder in path.parents})

    def has(self, path: PurePosixPath, *, kind: str) -> bool:
        is_folder = any(path in PurePosixPath(each).parents for each in self.files)
        is_file = str(path) in self.files
        return {"f": is_file, "d": is_folder}.get(kind, is_file or is_folder)


@dataclass(frozen=True, slots=True)
class Below:
    """`inner` for everything below `folder`, which is its root `/`; `outer` for the rest."""

    folder: PurePosixPath
    inner: Documents
    outer: Documents

    def read(self, path: PurePosixPath) -> bytes | None:
        documents, inside = self._place(path)
        return documents.read(inside)

    def names(self, folder: PurePosixPath) -> Sequence[str]:
        documents, inside = self._place(folder)
        return documents.names(inside)

    def has(self, path: PurePosixPath, *, kind: str) -> bool:
        documents, inside = self._place(path)
        return documents.has(inside, kind=kind)

    def _place(self, path: PurePosixPath) -> tuple[Documents, PurePosixPath]:
        plain = PurePosixPath(os.path.normpath(path))
        if plain.is_relative_to(self.folder):
            return self.inner, "/" / plain.relative_to(self.folder)
        return self.outer, plain
