"""The master key wherever it is kept: a file, a token, or a command that signs.

It signs one thing only, the text of a whitelist's digest, so whoever keeps it needs nothing of the repository.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cernvm.core.errors import DeadlineError, DeniedError, InvalidInputError, PrerequisiteError
from cernvm.fs.format.signature import sign_raw
from cernvm.fs.publish.keys import Keys, read_key

COMMAND_DEADLINE_S = 60.0
COMMAND = "command:"
TOKEN = "pkcs11:"  # noqa: S105  # the scheme of RFC 7512
_MAX_SIGNATURE_BYTES = 2048


class MasterKey(Protocol):
    """What signs whitelists. Errors: `PrerequisiteError`, `DeniedError`, `DeadlineError`, `InvalidInputError`."""

    @property
    def is_at_hand(self) -> bool:
        """Whether it signs without a person: then a publication renews a whitelist in passing."""

    def sign(self, text: bytes) -> bytes:
        """The raw signature (RSA PKCS#1 v1.5 without a hash) of at most 50 bytes."""


@dataclass(frozen=True, slots=True)
class FileMasterKey:
    """A master key in a PEM file."""

    path: Path

    @property
    def is_at_hand(self) -> bool:
        return self.path.is_file()

    def sign(self, text: bytes) -> bytes:
        return sign_raw(read_key(self.path), text)


@dataclass(frozen=True, slots=True)
class CommandMasterKey:
    """A program that is given the text on its standard input and answers with the signature's bytes."""

    words: tuple[str, ...]
    deadline_s: float = COMMAND_DEADLINE_S

    @property
    def is_at_hand(self) -> bool:
        return False  # it may ask a person, or cost something

    def sign(self, text: bytes) -> bytes:
        name = self.words[0]
        try:
            child = subprocess.Popen(
                self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise PrerequisiteError(
                f"the command {name} for the master key cannot be run: {error.strerror}"
            ) from error
        try:
            answer, _ = child.communicate(text, timeout=self.deadline_s)
        except subprocess.TimeoutExpired:
            raise DeadlineError(
                f"the command {name} for the master key", after_s=self.deadline_s
            ) from None
        finally:
            _end(child)
        if child.returncode != 0 or not 0 < len(answer) <= _MAX_SIGNATURE_BYTES:
            raise DeniedError(
                f"the command {name} for the master key gave no signature",
                advice=f"it ended with status {child.returncode}; see what it said",
            )
        return answer


def open_master(location: str, keys: Keys) -> MasterKey:
    """The master key at a location: empty for the file beside the other keys, a path, `command:…` or `pkcs11:…`.

    Errors: `InvalidInputError` for a location that makes no sense.
    """
    if location.startswith(COMMAND):
        try:
            words = tuple(shlex.split(location.removeprefix(COMMAND)))
        except ValueError as error:
            raise InvalidInputError(f"{location!r} is no command: {error}") from None
        if not words:
            raise InvalidInputError("no command is named for the master key")
        return CommandMasterKey(words)
    if location.startswith(TOKEN):
        from cernvm.fs.publish.master_token import parse_token  # noqa: PLC0415  # few have one

        return parse_token(location)
    return FileMasterKey(Path(location).absolute() if location else keys.master)


def _end(child: subprocess.Popen[bytes]) -> None:
    """See a command end with all that it started, and close its pipes."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
