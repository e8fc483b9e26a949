"""Where all state lives: one folder, `CVM_HOME`, and the name of every place in it.

Only the edges (`cli`, the guest's boot) look at the environment; everything below is given a `Home` or a path of it.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.errors import InvalidInputError

_REPOSITORY_NAME = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+")


@dataclass(frozen=True, slots=True)
class Home:
    """The data folder of one user; the properties name its rooms' folders, which their owners create."""

    path: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Home:
        """`CVM_HOME`, else `$XDG_DATA_HOME/cernvm`, else `~/.local/share/cernvm`."""
        if chosen := environment.get("CVM_HOME"):
            return cls(Path(chosen).absolute())
        base = environment.get("XDG_DATA_HOME") or str(
            Path(environment.get("HOME", "/")) / ".local/share"
        )
        return cls(Path(base).absolute() / "cernvm")

    @property
    def repositories(self) -> Path:
        """One small TOML file per repository known here: where its storage and keys are."""
        return self.path / "repositories"

    @property
    def replicas(self) -> Path:
        """One small TOML file per repository replicated here: where it comes from and where it lies."""
        return self.path / "replicas"

    @property
    def through(self) -> Path:
        """One small TOML file per repository that is passed through to clients, not copied."""
        return self.path / "through"

    @property
    def gateway(self) -> Path:
        """The gateway of several publishers: its leases, and their keys; readable by its owner only."""
        return self.path / "gateway"

    @property
    def storage(self) -> Path:
        """Default place of repositories' storage, one folder per name, as a web server exports them."""
        return self.path / "srv"

    @property
    def keys(self) -> Path:
        """Default place of repositories' keys."""
        return self.path / "keys"

    @property
    def edits(self) -> Path:
        """What open transactions have changed, one folder per repository."""
        return self.path / "edits"

    @property
    def cache(self) -> Path:
        """The CernVM-FS client's cache, shared by all mounts."""
        return self.path / "cache"

    @property
    def run(self) -> Path:
        """What is true only while processes live: process records, control sockets, ports."""
        return self.path / "run"

    @property
    def log(self) -> Path:
        """One log file per process that runs in the background."""
        return self.path / "log"

    @property
    def clouds(self) -> Path:
        """One INI file per region: URL and credentials of a cloud, mode 0600."""
        return self.path / "clouds"

    @property
    def templates(self) -> Path:
        """User-data templates, `NAME.tpl`."""
        return self.path / "templates"

    @property
    def site(self) -> Path:
        """The site cloud: its database, its instances' writable layers and consoles."""
        return self.path / "site"

    @property
    def bus(self) -> Path:
        """The message bus: generated configuration, accounts, queued messages."""
        return self.path / "bus"

    @property
    def pilot(self) -> Path:
        """The job manager's database."""
        return self.path / "pilot"

    @property
    def outputs(self) -> Path:
        """The storage service's data."""
        return self.path / "outputs"

    @property
    def demo(self) -> Path:
        """The main job's report."""
        return self.path / "demo"


def ensure_folder(path: Path, *, mode: int = 0o755) -> Path:
    """Make a folder with exactly this mode where it is missing; returns it."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
    return path


def write_private(path: Path, data: bytes) -> None:
    """Write a secret so that it is never readable by others, not even for an instant; replaces atomically."""
    _replace(path, data, mode=0o600)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content so that readers, and a crash, see the old bytes or the new, never a part."""
    _replace(path, data, mode=0o666)


def _replace(path: Path, data: bytes, *, mode: int) -> None:
    # a name that nobody can have taken, for this thread or to read along
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Have the names in a folder outlive a loss of power, not only the content of its files."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_repository_name(name: str) -> str:
    """The name itself, if it is a fully qualified repository name such as `sft.cernvm.test`.

    Errors: `InvalidInputError`; names become folders and URLs, so nothing else may pass.
    """
    if len(name) > 255 or not _REPOSITORY_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is no repository name",
            advice="use lower-case words joined by dots, such as sft.cernvm.test",
        )
    return name
