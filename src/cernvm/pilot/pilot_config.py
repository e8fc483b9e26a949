"""What a pilot is told in its context."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cernvm.core.errors import ConfigError

CONFIG_FILE = Path("/etc/cernvm/pilot.toml")


@dataclass(frozen=True, slots=True)
class PilotConfig:
    """What a pilot is told in its context: the bus, its account there, whom to ask for jobs.

    Shape: `server` is `host:port`; `jid` and `manager` are `name@domain`; an empty `work_folder` is one in the
    machine's folder for temporary files. The password never prints.
    """

    server: str
    jid: str
    password: str = field(repr=False)
    manager: str
    work_folder: str = ""

    def __post_init__(self) -> None:
        host, _, port = self.server.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"expected host:port, found {self.server!r}", key="server")
        for key in ("jid", "manager"):
            name, at, domain = getattr(self, key).partition("@")
            if not (name and at and domain):
                raise ConfigError("expected name@domain", key=key)

    @property
    def host(self) -> str:
        """The bus's host."""
        return self.server.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The bus's port."""
        return int(self.server.rpartition(":")[2])

    @property
    def work_base(self) -> Path:
        """Where this user's pilots work."""
        if self.work_folder:
            return Path(self.work_folder)
        return Path(tempfile.gettempdir()) / f"cernvm-pilot-{os.geteuid()}"

    def full_address(self) -> str:
        """The address of one pilot process: unique, and telling where it is."""
        if "/" in self.jid:
            return self.jid
        host = "".join(c for c in socket.gethostname() if c.isalnum() or c in ".-")[:64]
        return f"{self.jid}/{host or 'pilot'}-{secrets.token_hex(4)}"
