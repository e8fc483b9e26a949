"""The system a context is applied to: a running instance, the tree of an image, or a twin in memory."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cernvm.core.errors import DeniedError
from cernvm.core.linux import sethostname

_MAX_FILE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class FileState:
    """What is at a path: a folder or not, its permission bits and owner."""

    is_folder: bool
    mode: int
    uid: int
    gid: int


class Machine(Protocol):
    """A system's files and its name; paths are absolute, as the system sees them.

    Errors: `OSError` with the path, as the kernel gives it; callers say what it means for their step.
    """

    def look(self, path: str) -> FileState | None:
        """What is at a path (a symbolic link's target); None where nothing is."""

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is none."""

    def write(self, path: str, data: bytes, *, mode: int, uid: int, gid: int) -> None:
        """Replace a file at once, making missing parent folders; nobody else can read it before it has its mode."""

    def make_folder(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        """Make a folder with that mode and owner."""

    def listing(self, path: str) -> tuple[str, ...]:
        """The names in a folder, sorted."""

    def rename(self, hostname: str) -> bool:
        """Give the running system a name; False where it has that name, or nothing is running."""


@dataclass(frozen=True, slots=True)
class LocalMachine:
    """The system whose root is at `root`: `/` is the running one, any other folder the tree of an image.

    No path leads out of the tree, whatever symbolic links it holds.
    """

    root: Path = Path("/")

    def look(self, path: str) -> FileState | None:
        try:
            state = self._place(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        mode = stat.S_IMODE(state.st_mode)
        return FileState(stat.S_ISDIR(state.st_mode), mode, state.st_uid, state.st_gid)

    def read(self, path: str) -> bytes | None:
        try:
            with self._place(path).open("rb") as file:
                return file.read(_MAX_FILE_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, data: bytes, *, mode: int, uid: int, gid: int) -> None:
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{place.name}.{os.getpid()}.new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fchown(descriptor, uid, gid)
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)

    def make_folder(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700)
        os.chown(place, uid, gid)
        place.chmod(mode)

    def listing(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(entry.name for entry in self._place(path).iterdir()))

    def rename(self, hostname: str) -> bool:
        if self.root != Path("/") or os.uname().nodename == hostname:
            return False
        try:
            sethostname(hostname)
        except PermissionError:
            raise DeniedError(
                f"this instance may not take the name {hostname}",
                advice="its site names it; leave [hostname] out",
            ) from None
        return True

    def _place(self, path: str) -> Path:
        place = self.root / path.lstrip("/")
        root = self.root.resolve()
        if not place.resolve().is_relative_to(root):
            raise PermissionError(1, "leads out of the tree", path)
        return place.resolve()


@dataclass(slots=True)
class MemoryMachine:
    """A system of files in memory: the twin of a real one."""

    files: dict[str, tuple[bytes, FileState]] = field(default_factory=dict)
    folders: dict[str, FileState] = field(default_factory=dict)
    hostname: str = "localhost"

    def look(self, path: str) -> FileState | None:
        if path in self.files:
            return self.files[path][1]
        if path in self.folders:
            return self.folders[path]
        is_parent = any(name.startswith(f"{path}/") for name in (*self.files, *self.folders))
        return FileState(True, 0o755, 0, 0) if is_parent else None

    def read(self, path: str) -> bytes | None:
        return self.files[path][0] if path in self.files else None

    def write(self, path: str, data: bytes, *, mode: int, uid: int, gid: int) -> None:
        self.files[path] = (data, FileState(False, mode, uid, gid))

    def make_folder(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        if self.look(path):
            raise FileExistsError(17, "File exists", path)
        self.folders[path] = FileState(True, mode, uid, gid)

    def listing(self, path: str) -> tuple[str, ...]:
        state = self.look(path)
        if state is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        if not state.is_folder:
            raise NotADirectoryError(20, "Not a directory", path)
        below = [name for name in (*self.files, *self.folders) if name.startswith(f"{path}/")]
        return tuple(sorted({name[len(path) + 1 :].split("/")[0] for name in below}))

    def rename(self, hostname: str) -> bool:
        changed, self.hostname = self.hostname != hostname, hostname
        return changed
