"""Repositories for everything that reads through fsspec: `cvmfs://REPOSITORY/PATH`.

    fsspec.open("cvmfs://sft.cernvm.test/share/table.csv", servers="http://stratum1/cvmfs/@fqrn@",
                public_keys=["sft.cernvm.test.pub"])

Storage options are the arguments of `open_repository`, with `servers` for its `url`, a name that fsspec's own functions
take; where a repository is configured, none is needed. Repositories
are opened once per process, when they are first read: instances pickle, and find their repositories again elsewhere.
Caching, of lists too, is the client's own; `invalidate_cache` looks for a newer revision.
"""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from fsspec.spec import AbstractFileSystem

from cernvm.core.errors import NotFoundError
from cernvm.fs.api.files import DEFAULT_WAIT_S, Files
from cernvm.fs.api.opened import OpenRepository, open_repository
from cernvm.fs.api.oserrors import as_os_errors
from cernvm.fs.api.stream import BUFFER_BYTES, FileStream
from cernvm.fs.reader import Pin
from cernvm.fs.vfs import Attributes

_THREADS = 16
_READ_ONLY = "a repository is only read"
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


class CvmfsFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """CernVM-FS to fsspec. Concurrency: as `OpenRepository`; safe in threads and after a fork.

    Shape: `servers` may contain `@fqrn@` for the repository's name; at most one of `tag`, `revision`, `at`, `root_hash`
    holds a revision. Units: `wait_s` bounds each single wait.
    """

    protocol = "cvmfs"
    root_marker = ""

    def __init__(
        self,
        *,
        servers: str = "",
        public_keys: Sequence[str] = (),
        proxy: str = "",
        cache: str | None = None,
        tag: str = "",
        revision: int = 0,
        at: str = "",
        root_hash: str = "",
        wait_s: float = DEFAULT_WAIT_S,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self._where: dict[str, Any] = {
            "url": servers,
            "public_keys": tuple(map(os.fspath, public_keys)),
            "proxy": proxy,
            "cache": cache,
            "wait_s": wait_s,
        }
        self._pin = Pin(root_hash, tag, revision, at)
        self._mine = _Opened(os.getpid(), None)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """`REPOSITORY/PATH`, normal; a list for a list."""
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = str(path).removeprefix("cvmfs://").removeprefix("/cvmfs/").lstrip("/")
        return str(PurePosixPath(text)) if text else ""

    def unstrip_protocol(self, name: str) -> str:
        return f"cvmfs://{self._strip_protocol(name)}"

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        files, inside = self._find(path)
        with as_os_errors(path):
            attributes = files.attributes(inside)
            if stat.S_ISDIR(attributes.mode):
                rows = [
                    self._row(files, f"{path}/{os.fsdecode(item.name)}", item.attributes)
                    for item in files.listing(inside)
                ]
            else:
                rows = [self._row(files, path, attributes)]
        return rows if detail else [row["name"] for row in rows]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        files, inside = self._find(path)
        with as_os_errors(path):
            attributes = files.attributes(inside, follow=False)
            row = self._row(files, path, attributes)
            if row["islink"]:
                with suppress(NotFoundError):  # else it leads nowhere, and is what it is
                    row |= self._row(files, path, files.attributes(inside))
                    row["islink"] = True
            return row

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def created(self, path: str) -> datetime:
        return self.modified(path)

    def checksum(self, path: str) -> int:
        """Another number when the content is another."""
        return int(self.info(path)["ino"])

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        path = self._strip_protocol(path)
        files, inside = self._find(path)
        with as_os_errors(path):
            file = files.open(inside)
            try:
                begin, stop = slice(start, end).indices(file.size_bytes)[:2]
                return file.read(begin, max(0, stop - begin))
            finally:
                file.close()

    def cat_ranges(
        self,
        paths: Any,
        starts: Any,
        ends: Any,
        max_gap: Any = None,  # noqa: ARG002  # nothing is gained by joining
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Several stretches at once, each `bytes`, or with `on_error="return"` the error."""
        begins = list(starts) if isinstance(starts, list | tuple) else [starts] * len(paths)
        stops = list(ends) if isinstance(ends, list | tuple) else [ends] * len(paths)

        def read(path: str, start: int | None, end: int | None) -> Any:
            try:
                return self.cat_file(path, start, end)
            except OSError as error:
                if on_error == "return":
                    return error
                raise

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="cvmfs") as pool:
            return list(pool.map(read, paths, begins, stops))

    def invalidate_cache(self, path: str | None = None) -> None:
        """Show the newest revision, unless one is held."""
        for repository in list(self._repositories().by_name.values()):
            if path is None or self._strip_protocol(path).split("/")[0] == repository.name:
                repository.reload()
        super().invalidate_cache(path)

    def close(self) -> None:
        """Close the repositories; they are opened again when they are needed."""
        mine = self._repositories()
        with mine.lock:
            opened, mine.by_name = list(mine.by_name.values()), {}
        for repository in opened:
            repository.close()

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BufferedReader:
        if mode != "rb":
            raise OSError(30, _READ_ONLY, path)  # EROFS
        path = self._strip_protocol(path)
        files, inside = self._find(path)
        with as_os_errors(path):
            file = files.open(inside)
        return _Reader(FileStream(file, path), BUFFER_BYTES, file.size_bytes)

    def _rm(self, path: str) -> None:
        raise OSError(30, _READ_ONLY, path)

    def _find(self, path: str) -> tuple[Files, bytes]:
        name, _, inside = path.partition("/")
        if not name:
            raise FileNotFoundError(2, "name a repository: cvmfs://REPOSITORY/PATH", path)
        mine = self._repositories()
        repository = mine.by_name.get(name)
        if repository is None:
            with as_os_errors(path), mine.turn_of(name):
                repository = mine.by_name.get(name)
                if repository is None:
                    repository = open_repository(name, pin=self._pin, **self._where)
                    mine.by_name[name] = repository
        return repository.files, b"/" + os.fsencode(inside)

    def _repositories(self) -> _Opened:
        if self._mine.process != os.getpid():
            self._mine = _Opened(os.getpid(), self._mine)
        return self._mine

    def _row(self, files: Files, path: str, attributes: Attributes) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": path,
            "type": _KINDS.get(stat.S_IFMT(attributes.mode), "other"),
            "size": attributes.size_bytes if stat.S_ISREG(attributes.mode) else 0,
            "mode": attributes.mode,
            "uid": attributes.uid,
            "gid": attributes.gid,
            "nlink": attributes.link_count,
            "mtime": attributes.mtime_ns / 10**9,
            "ino": attributes.inode,
            "islink": stat.S_ISLNK(attributes.mode),
        }
        if row["islink"]:
            inside = b"/" + os.fsencode(path.partition("/")[2])
            row["destination"] = os.fsdecode(files.target(inside))
        return row


class _Reader(io.BufferedReader):
    """A buffered stream that knows its length, as fsspec's callers ask for it."""

    def __init__(self, raw: io.RawIOBase, buffer_bytes: int, size: int) -> None:
        super().__init__(raw, buffer_bytes)
        self.size = size


class _Opened:
    """The repositories that one process has opened.

    Of a parent's, neither threads nor connections survive a fork; they are kept, since letting them go would touch
    databases that the parent has open.
    """

    def __init__(self, process: int, parents: _Opened | None) -> None:
        self.process = process
        self.by_name: dict[str, OpenRepository] = {}
        self.lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._parents = parents

    def turn_of(self, name: str) -> threading.Lock:
        """Held while a repository is opened: once, and without keeping anybody from the others."""
        with self.lock:
            return self._turns.setdefault(name, threading.Lock())
