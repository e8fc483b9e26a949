"""Which key may publish what: two small files per key in `$CVM_HOME/gateway/keys`.

`ID.gw` is the key itself, mode 0600, in the original's form; a copy of it is what a publisher is given. `ID.toml` says
what it may do: a path for each repository, and whether it may administer. Looked up for each request, so that a key
that is taken away is gone at once.
Source: docs/formats/gateway.md, "Keys".
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cernvm.core.config import read_toml
from cernvm.core.errors import (
    DeniedError,
    ExistsError,
    FormatError,
    InvalidInputError,
    NotFoundError,
)
from cernvm.core.home import ensure_folder, write_atomically, write_private
from cernvm.fs.gateway.lease import LeasePath
from cernvm.fs.gateway.signature import KEY_ID, Secret, format_key_file, parse_key_file
from cernvm.fs.publish.publishing import parse_path

_MAX_KEY_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Key:
    """A key and its rights: the path of each repository below which its holder may publish.

    Shape: `is_strict` where each request needs a proof, which the original's publishers do not give.
    """

    secret: Secret
    paths: Mapping[str, bytes]
    is_admin: bool = False
    is_strict: bool = False

    @property
    def id(self) -> str:
        """What the key is called in requests and listings."""
        return self.secret.id

    def check(self, path: LeasePath) -> None:
        """Refuse, by `DeniedError`, a path that is not the key's."""
        top = self.paths.get(path.repository)
        if top is None:
            raise DeniedError(f"key {self.id} may not publish {path.repository}")
        if not LeasePath(path.repository, top).covers(path):
            raise DeniedError(
                f"key {self.id} may not publish {path}",
                advice=f"lease a path at or below {os.fsdecode(top)}",
            )


@dataclass(frozen=True, slots=True)
class _Rights:
    admin: bool = False
    strict: bool = False
    paths: Mapping[str, str] = field(default_factory=dict)


class KeyFolder:
    """The keys that a gateway knows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key_id: str) -> Key:
        """A key by its id; `NotFoundError`, and `DeniedError` for a file that others could read or write."""
        if not KEY_ID.fullmatch(key_id) or not self._file(key_id).exists():
            raise NotFoundError("key", key_id, advice="make one: cvm repo gateway add-key")
        secret = read_key_file(self._file(key_id))
        if secret.id != key_id:
            raise FormatError("holds another key", where=str(self._file(key_id)))
        rights = read_toml(self._rights(key_id), _Rights)
        paths = {name: parse_path(path) for name, path in rights.paths.items()}
        return Key(secret, paths, rights.admin, rights.strict)

    def all(self) -> list[Key]:
        """Every key, by id."""
        return [self.find(path.stem) for path in sorted(self.folder.glob("*.gw"))]

    def add(
        self, path: LeasePath, *, key_id: str = "", is_admin: bool = False, is_strict: bool = False
    ) -> Key:
        """A new key for a path of a repository, or one more repository for a key that there is."""
        chosen = key_id or f"{path.repository}-{secrets.token_hex(4)}"[-64:]
        if not KEY_ID.fullmatch(chosen):
            raise InvalidInputError(f"{chosen!r} is no name of a key")
        ensure_folder(self.folder, mode=0o700)
        if self._file(chosen).exists():
            known = self.find(chosen)
            if path.repository in known.paths:
                raise ExistsError("key", chosen, advice="choose another name, or remove it first")
            paths = {**known.paths, path.repository: path.path}
            key = Key(known.secret, paths, known.is_admin or is_admin, known.is_strict or is_strict)
        else:
            secret = Secret(chosen, secrets.token_hex(24))
            key = Key(secret, {path.repository: path.path}, is_admin, is_strict)
        # the rights first: a key without them is an error for whoever looks at all keys
        write_atomically(self._rights(chosen), _format_rights(key))
        write_private(self._file(chosen), format_key_file(key.secret))
        return key

    def remove(self, key_id: str) -> None:
        """Take a key away; what was leased by it stays leased until it runs out or is cancelled."""
        self.find(key_id)
        self._file(key_id).unlink()
        self._rights(key_id).unlink(missing_ok=True)

    def file(self, key_id: str) -> Path:
        """The file to give to a publisher."""
        return self._file(key_id)

    def _file(self, key_id: str) -> Path:
        return self.folder / f"{key_id}.gw"

    def _rights(self, key_id: str) -> Path:
        return self.folder / f"{key_id}.toml"


def read_key_file(path: Path) -> Secret:
    """The key in a file that nobody else may read; `NotFoundError`, `DeniedError`, `FormatError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError(
            "key file", str(path), advice="ask the gateway's keeper for one"
        ) from None
    except OSError as exc:
        raise DeniedError(f"{path}: {exc.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise DeniedError(
                f"others may read {path}, which is a secret", advice=f"chmod 600 {path}"
            )
        return parse_key_file(file.read(_MAX_KEY_BYTES).decode("ascii", "replace"))


def _format_rights(key: Key) -> bytes:
    lines = [
        f"admin = {json.dumps(key.is_admin)}",
        f"strict = {json.dumps(key.is_strict)}",
        "[paths]",
    ]
    for name, path in sorted(key.paths.items()):
        lines.append(f"{json.dumps(name)} = {json.dumps(os.fsdecode(path) or '/')}")
    return ("\n".join(lines) + "\n").encode()
