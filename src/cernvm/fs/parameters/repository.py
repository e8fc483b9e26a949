"""Documents that lie in a repository, read through its mount where there is one, else without any."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from cernvm.core.clock import Deadline
from cernvm.core.errors import ConfigError, NotFoundError
from cernvm.core.home import Home
from cernvm.fs.client import open_client
from cernvm.fs.fuse import KIND, mount_at
from cernvm.fs.parameters.documents import MAX_FILE_BYTES, MAX_LISTED, Documents, FolderDocuments
from cernvm.fs.parameters.mapping import default_point, settings_of
from cernvm.fs.parameters.values import Parameters
from cernvm.fs.vfs import ROOT_INODE, Attributes, View

READING_DEADLINE_S = 20.0

_LINKS_FOLLOWED = 16


class OpenedDocuments:
    """Opens the configuration repository for `read_parameters`."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @contextmanager
    def __call__(self, parameters: Parameters, /) -> Iterator[Documents]:
        point = default_point(parameters)
        mounted = mount_at(point)
        if mounted is not None and mounted.kind == KIND and mounted.source == parameters.repository:
            yield MountedDocuments(PurePosixPath(point))
            return
        settings = settings_of(parameters, home=self._home, point=point)
        with open_client(settings.client) as client:
            yield ViewDocuments(client.view, Deadline.after(READING_DEADLINE_S))


class MountedDocuments:
    """What lies below a mount point. Paths begin there; links that leave it lead nowhere."""

    def __init__(self, point: PurePosixPath) -> None:
        self._point = Path(os.path.realpath(point))
        self._folders = FolderDocuments()

    def read(self, path: PurePosixPath) -> bytes | None:
        place = self._place(path)
        return None if place is None else self._folders.read(place)

    def names(self, folder: PurePosixPath) -> Sequence[str]:
        place = self._place(folder)
        return () if place is None else self._folders.names(place)

    def has(self, path: PurePosixPath, *, kind: str) -> bool:
        place = self._place(path)
        return place is not None and self._folders.has(place, kind=kind)

    def _place(self, path: PurePosixPath) -> PurePosixPath | None:
        place = Path(os.path.realpath(self._point / path.relative_to("/")))
        return PurePosixPath(place) if place.is_relative_to(self._point) else None


class ViewDocuments:
    """What lies in a repository that is not mounted. Links that leave it lead nowhere."""

    def __init__(self, view: View, deadline: Deadline) -> None:
        self._view = view
        self._deadline = deadline

    def read(self, path: PurePosixPath) -> bytes | None:
        found = self._find(path)
        if found is None or not stat.S_ISREG(found.mode):
            return None
        if found.size_bytes > MAX_FILE_BYTES:
            raise ConfigError(f"it is larger than {MAX_FILE_BYTES} bytes", source=str(path))
        return self._view.read(found.inode, 0, found.size_bytes, self._deadline)

    def names(self, folder: PurePosixPath) -> Sequence[str]:
        found = self._find(folder)
        if found is None or not stat.S_ISDIR(found.mode):
            return ()
        names: list[str] = []
        offset = 0
        while len(names) < MAX_LISTED and (
            part := self._view.listing(found.inode, offset, self._deadline)
        ):
            offset = part[-1].offset
            names += [os.fsdecode(each.name) for each in part if each.name not in (b".", b"..")]
        return sorted(names)

    def has(self, path: PurePosixPath, *, kind: str) -> bool:
        found = self._find(path)
        if found is None:
            return False
        return {"f": stat.S_ISREG, "d": stat.S_ISDIR}.get(kind, bool)(found.mode)

    def _find(self, path: PurePosixPath) -> Attributes | None:
        """What is at a path, links followed; nothing is given back, since the view ends with us."""
        todo = list(reversed(path.parts[1:]))
        above = [self._view.attributes(ROOT_INODE)]
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                above = above[:-1] or above
                continue
            try:
                found = self._view.lookup(above[-1].inode, os.fsencode(name), self._deadline)
            except NotFoundError:
                return None
            if not stat.S_ISLNK(found.mode):
                above.append(found)
                continue
            links += 1
            target = PurePosixPath(os.fsdecode(self._view.readlink(found.inode)))
            if links > _LINKS_FOLLOWED or target.is_absolute():
                return None
            todo += reversed(target.parts)
        return above[-1]
