"""The files a job made: measured where they lie, then sent to the storage."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cernvm.core.errors import InvalidInputError, UnavailableError
from cernvm.core.retry import backoff_s
from cernvm.pilot.commands import Destination
from cernvm.pilot.job import Output
from cernvm.storage.client import StorageClient
from cernvm.storage.port import BLOCK_BYTES

PATIENCE_S = 300.0


def measure(folder: Path, names: Sequence[str]) -> tuple[Output, ...]:
    """Size and SHA-256 of each output.

    Errors: `InvalidInputError` for what is no regular file (a link could lead out of the folder).
    """
    made = []
    for name in names:
        hasher = hashlib.sha256()
        size_bytes = 0
        for block in _read(folder / name):
            hasher.update(block)
            size_bytes += len(block)
        made.append(Output(name, size_bytes, hasher.hexdigest()))
    return tuple(made)


class Upload:
    """One sending of outputs, which another thread may abort."""

    def __init__(self, destination: Destination, folder: Path, made: Sequence[Output]) -> None:
        self._destination = destination
        self._folder = folder
        self._made = made
        self._aborted = threading.Event()

    def abort(self) -> None:
        """Make `run` end soon."""
        self._aborted.set()

    def run(self) -> None:
        """Store every output, trying again for a while where the storage is away. Concurrency: blocks.

        Errors: the storage's; `UnavailableError` when it stayed away or the upload was aborted.
        """
        storage = StorageClient(self._destination.url, self._destination.token)
        end = time.monotonic() + PATIENCE_S
        for output in self._made:
            pauses = backoff_s(initial_s=0.5, maximum_s=10)
            while True:
                try:
                    self._send(storage, output)
                    break
                except UnavailableError:
                    if time.monotonic() > end or self._aborted.wait(next(pauses)):
                        raise

    def _send(self, storage: StorageClient, output: Output) -> None:
        storage.put(
            f"{self._destination.folder}/{output.name}",
            self._blocks(self._folder / output.name),
            size_bytes=output.size_bytes,
            sha256=output.sha256,
        )

    def _blocks(self, path: Path) -> Iterator[bytes]:
        for block in _read(path):
            if self._aborted.is_set():
                raise UnavailableError("the upload was aborted")
            yield block


def _read(path: Path) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInputError(f"the output {path.name}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidInputError(f"the output {path.name} is no regular file")
        while block := file.read(BLOCK_BYTES):
            yield block
