"""One place in a repository, with the verbs of `pathlib.Path` that read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, cast

from cernvm.fs.api.files import Files
from cernvm.fs.api.matching import matching
from cernvm.fs.api.oserrors import as_os_errors
from cernvm.fs.api.stream import buffered
from cernvm.fs.vfs import Attributes


class RepositoryPath:
    """A path of one open repository: as `pathlib.PurePosixPath`, and readable.

    It begins with a slash, which is the repository's root. Names that are no UTF-8 are as `os.fsdecode` gives them.
    Errors: `OSError`s as `pathlib` raises them; the `__cause__` says why.
    """

    __slots__ = ("_files", "_pure")

    def __init__(self, files: Files, path: str | PurePosixPath = "/") -> None:
        self._files = files
        self._pure = PurePosixPath("/") / path

    def __str__(self) -> str:
        return str(self._pure)

    def __repr__(self) -> str:
        return f"RepositoryPath('{self._files.name}:{self._pure}')"

    def __hash__(self) -> int:
        return hash((id(self._files), self._pure))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RepositoryPath):
            return NotImplemented
        return self._files is other._files and self._pure == other._pure

    def __lt__(self, other: RepositoryPath) -> bool:
        return (self._files.name, self._pure) < (other._files.name, other._pure)

    def __truediv__(self, other: str | PurePosixPath) -> RepositoryPath:
        return self._with(self._pure / other)

    @property
    def repository(self) -> str:
        """The repository's name."""
        return self._files.name

    @property
    def uri(self) -> str:
        """The path as fsspec and `cvm` know it: `cvmfs://REPOSITORY/PATH`."""
        return f"cvmfs://{self._files.name}{'' if self._pure.name == '' else self._pure}"

    @property
    def name(self) -> str:
        """The last part; empty for the root."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """The name from its last dot on."""
        return self._pure.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The slash, then every name."""
        return self._pure.parts

    @property
    def parent(self) -> RepositoryPath:
        """One level up, without a look at links; the root is its own."""
        return self._with(self._pure.parent)

    def joinpath(self, *others: str | PurePosixPath) -> RepositoryPath:
        """This path and others below it."""
        return self._with(self._pure.joinpath(*others))

    def with_name(self, name: str) -> RepositoryPath:
        """The neighbour of that name."""
        return self._with(self._pure.with_name(name))

    def with_suffix(self, suffix: str) -> RepositoryPath:
        """The neighbour with that suffix."""
        return self._with(self._pure.with_suffix(suffix))

    def relative_to(self, other: RepositoryPath | str) -> PurePosixPath:
        """The way from `other` down to here; `ValueError` where there is none."""
        return self._pure.relative_to(str(other))

    def match(self, pattern: str) -> bool:
        """Whether the path's end matches a pattern."""
        return self._pure.match(pattern)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """As `os.stat`; the time of change stands for all three times."""
        with self._os_errors():
            return stat_result(self._files.attributes(self._pure, follow=follow_symlinks))

    def lstat(self) -> os.stat_result:
        """As `os.lstat`."""
        return self.stat(follow_symlinks=False)

    def exists(self) -> bool:
        """Whether it is there, and where its link leads is too; trouble with servers is raised."""
        return self._mode() is not None

    def is_dir(self) -> bool:
        """Whether it is a directory, or a link to one."""
        return stat.S_ISDIR(self._mode() or 0)

    def is_file(self) -> bool:
        """Whether it is a regular file, or a link to one."""
        return stat.S_ISREG(self._mode() or 0)

    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self._mode(follow=False) or 0)

    def readlink(self) -> PurePosixPath:
        """Where a symbolic link leads, variables filled in; often relative, and perhaps outside."""
        with self._os_errors():
            return PurePosixPath(os.fsdecode(self._files.target(self._pure)))

    def resolve(self) -> RepositoryPath:
        """The path without links and `..`; it must be there."""
        with self._os_errors():
            return self._with(PurePosixPath(os.fsdecode(self._files.resolved(self._pure))))

    def xattrs(self) -> dict[str, bytes]:
        """Its extended attributes."""
        with self._os_errors():
            found = self._files.xattrs(self._pure)
        return {os.fsdecode(name): value for name, value in found.items()}

    def iterdir(self) -> Iterator[RepositoryPath]:
        """What is in the directory, sorted by name."""
        for child, _ in self._scan():
            yield child

    def walk(self) -> Iterator[tuple[RepositoryPath, list[str], list[str]]]:
        """As `os.walk` from the top: each directory, its directories, its other names; links are not followed."""
        waiting = [self]
        while waiting:
            top = waiting.pop()
            folders: list[str] = []
            others: list[str] = []
            for path, attributes in top._scan():  # noqa: SLF001  # of another of us
                (folders if stat.S_ISDIR(attributes.mode) else others).append(path.name)
            yield top, folders, others
            waiting += [top / name for name in reversed(folders)]

    def glob(self, pattern: str) -> Iterator[RepositoryPath]:
        """What matches below here; `**` stands for any number of directories, and goes through no link."""
        for found in matching(self._files, self._pure, pattern):
            yield self._with(found)

    def rglob(self, pattern: str) -> Iterator[RepositoryPath]:
        """What matches at any depth below here."""
        return self.glob(f"**/{pattern}")

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """A stream, as `open` gives it, for text or bytes; it may only read, and keeps its content whatever happens."""
        if set(mode) not in ({"r"}, {"r", "b"}, {"r", "t"}):
            raise ValueError(f"a repository is only read: mode {mode!r}")
        with self._os_errors():
            stream = buffered(self._files.open(self._pure), str(self))
        if "b" in mode:
            return cast("IO[Any]", stream.detach() if buffering == 0 else stream)
        return io.TextIOWrapper(stream, io.text_encoding(encoding), errors, newline)

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self.open("rb") as stream:
            return bytes(stream.read())

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """The whole content as text."""
        with self.open("r", encoding=encoding, errors=errors) as stream:
            return str(stream.read())

    def _with(self, pure: PurePosixPath) -> RepositoryPath:
        return RepositoryPath(self._files, pure)

    def _os_errors(self) -> Any:
        return as_os_errors(str(self))

    def _mode(self, *, follow: bool = True) -> int | None:
        try:
            with self._os_errors():
                return self._files.attributes(self._pure, follow=follow).mode
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _scan(self) -> list[tuple[RepositoryPath, Attributes]]:
        with self._os_errors():
            listed = self._files.listing(self._pure)
        return [(self / os.fsdecode(item.name), item.attributes) for item in listed]


def stat_result(attributes: Attributes) -> os.stat_result:
    """The attributes as `os.stat` gives them; the device number is 0."""
    seconds, nanoseconds = attributes.mtime_ns // 10**9, attributes.mtime_ns
    times = {
        f"st_{which}{suffix}": value
        for which in ("atime", "mtime", "ctime")
        for suffix, value in (("", nanoseconds / 10**9), ("_ns", nanoseconds))
    }
    return os.stat_result(
        (
            attributes.mode,
            attributes.inode,
            0,
            attributes.link_count,
            attributes.uid,
            attributes.gid,
            attributes.size_bytes,
            seconds,
            seconds,
            seconds,
        ),
        {**times, "st_blocks": attributes.blocks, "st_blksize": 4096, "st_rdev": attributes.rdev},
    )
