"""The secret that the storage and the job agent share, in one file."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from cernvm.core.errors import ConfigError
from cernvm.core.home import ensure_folder, write_private

KEY_BYTES = 32


def load_key(path: Path) -> bytes:
    """The key in `path`, which is made, mode 0600, by whoever comes first.

    Errors: `ConfigError` for a file that holds no key.
    """
    if not path.exists():
        _make_key(path)
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"expected {2 * KEY_BYTES} hex digits",
            source=str(path),
            advice="delete the file: a new key is made, and running jobs get new tokens",
        )
    return key


def _make_key(path: Path) -> None:
    ensure_folder(path.parent)
    candidate = path.with_name(f"{path.name}.{os.getpid()}.candidate")
    write_private(candidate, secrets.token_hex(KEY_BYTES).encode())
    with suppress(FileExistsError):
        os.link(candidate, path)  # the first of several processes wins, and all use its key
    candidate.unlink()
