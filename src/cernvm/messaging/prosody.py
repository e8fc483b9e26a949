"""The bus's server: Prosody as a child process, with generated configuration and accounts in a data folder.

Shape: below the folder, `prosody.cfg.lua`, `data/` (Prosody's own), `prosody.log`, and `accounts/NAME.password`,
mode 0600, for whoever hands an account's password on. No password is ever an argument or a log line.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.errors import BusError, InvalidInputError
from cernvm.core.home import ensure_folder, write_atomically, write_private
from cernvm.core.process import start_child, stop_child
from cernvm.messaging.scram import Verifier, make_verifier
from cernvm.net.listening import open_listener

START_DEADLINE_S = 15.0
LOG_TAIL_BYTES = 2000

_ACCOUNT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)*")


@dataclass(frozen=True, slots=True)
class BusServer:
    """The settings of one bus: its data folder, the domain of its accounts, and where it listens."""

    folder: Path
    domain: str = "grid.test"
    host: str = "127.0.0.1"
    port: int = 5222

    def __post_init__(self) -> None:
        if len(self.domain) > 255 or not _DOMAIN.fullmatch(self.domain):
            raise InvalidInputError(f"{self.domain!r} is no domain name")

    def address_of(self, account: str) -> str:
        """The address by which an account is reached."""
        return f"{account}@{self.domain}"


def start_prosody(server: BusServer) -> subprocess.Popen[bytes]:
    """Start the server and return when it accepts connections; it dies with the calling thread.

    Errors: as `open_listener`; `PrerequisiteError` without Prosody; `BusError` with its last words when it fails.
    """
    open_listener(server.host, server.port).close()  # it would end with less clear words
    ensure_folder(server.folder, mode=0o700)
    ensure_folder(server.folder / "data", mode=0o700)
    config = server.folder / "prosody.cfg.lua"
    write_atomically(config, format_config(server, as_root=os.geteuid() == 0).encode())
    output = server.folder / "prosody.log"
    child = start_child(["prosody", "--config", str(config), "-F"], log=output, package="prosody")
    try:
        _wait_until_it_listens(server, child, output)
    except BaseException:
        stop_child(child)
        raise
    return child


def format_config(server: BusServer, *, as_root: bool) -> str:
    """Prosody's configuration: accounts with hashed passwords, presence, messages kept for those who are away."""
    folder = _lua_text(str(server.folder))
    return f"""-- written by cvm: changes are lost
pidfile = {folder} .. "/prosody.pid"
data_path = {folder} .. "/data"
run_as_root = {str(as_root).lower()}
daemonize = false
interfaces = {{ {_lua_text(server.host)} }}
c2s_ports = {{ {server.port} }}
c2s_direct_tls_ports = {{ }}
s2s_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
modules_enabled = {{ "roster"; "saslauth"; "disco"; "ping"; "offline"; "presence"; "message"; "iq" }}
modules_disabled = {{ "s2s"; "tls"; "posix" }}
allow_registration = false
c2s_require_encryption = false
allow_unencrypted_plain_auth = false
authentication = "internal_hashed"
storage = "internal"
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
VirtualHost {_lua_text(server.domain)}
"""


def renew_account(server: BusServer, name: str) -> Path:
    """Make an account, or give it a new password; returns the file that holds the password.

    Works while the server runs; connections that are open stay open. Errors: `InvalidInputError` for the name.
    """
    check_account_name(name)
    password = secrets.token_urlsafe(24)
    stored = _prosody_folder(server) / "accounts"
    ensure_folder(stored, mode=0o700)
    verifier = make_verifier(password, str(uuid.uuid4()))
    write_private(stored / f"{_encode(name)}.dat", _format_verifier(verifier).encode())
    kept = ensure_folder(server.folder / "accounts", mode=0o700) / f"{name}.password"
    write_private(kept, password.encode())
    return kept


def ensure_account(server: BusServer, name: str) -> str:
    """The password of an account of this bus, which is made if it is missing."""
    check_account_name(name)
    kept = server.folder / "accounts" / f"{name}.password"
    if (
        not kept.exists()
        or not (_prosody_folder(server) / "accounts" / f"{_encode(name)}.dat").exists()
    ):
        renew_account(server, name)
    return kept.read_text("ascii")


def check_account_name(name: str) -> str:
    """The name itself. Errors: `InvalidInputError`; names become addresses and files, so nothing else may pass."""
    if not _ACCOUNT_NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is no account name", advice="use lower-case letters, digits, . _ -"
        )
    return name


def _wait_until_it_listens(server: BusServer, child: subprocess.Popen[bytes], output: Path) -> None:
    end = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < end:
        if child.poll() is not None:
            raise BusError(
                f"prosody ended with status {child.returncode}: {_last_words(output)}",
                advice=f"read {output}",
            )
        try:
            socket.create_connection((server.host, server.port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BusError(
        f"prosody does not listen on {server.host}:{server.port} after {START_DEADLINE_S:g} s",
        advice=f"read {output}",
    )


def _last_words(output: Path) -> str:
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - LOG_TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _prosody_folder(server: BusServer) -> Path:
    return server.folder / "data" / _encode(server.domain)


def _encode(name: str) -> str:
    """How Prosody writes a name as a file name: all but letters and digits as %xx."""
    return "".join(
        letter
        if letter.isascii() and letter.isalnum()
        else "".join(f"%{b:02x}" for b in letter.encode())
        for letter in name
    )


def _format_verifier(verifier: Verifier) -> str:
    return (
        "return {\n"
        f'\t["iteration_count"] = {verifier.iterations};\n'
        f'\t["salt"] = "{verifier.salt}";\n'
        f'\t["stored_key"] = "{verifier.stored_key.hex()}";\n'
        f'\t["server_key"] = "{verifier.server_key.hex()}";\n'
        "};\n"
    )


def _lua_text(text: str) -> str:
    escaped = "".join(
        letter
        if letter.isprintable() and letter not in '"\\'
        else "".join(f"\\{b:03d}" for b in letter.encode())
        for letter in text
    )
    return f'"{escaped}"'
