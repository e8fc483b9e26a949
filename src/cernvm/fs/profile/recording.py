"""One command on a mount of its own, cold and without read-ahead, so that every first read can be seen.

The command is a child process in a private namespace, as `cvm exec` makes it. The repository is served from its storage
by this very process, as it was published last; its cache is in a folder that ends with the recording.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Never

from cernvm.core.errors import CvmError, UnavailableError
from cernvm.core.linux import adopt_orphans
from cernvm.core.log import fields
from cernvm.fs.cache import CacheSettings
from cernvm.fs.client import ClientSettings
from cernvm.fs.format.reads import MAX_RECORD_BYTES, FirstRead, parse_reads
from cernvm.fs.mount.background import Report, revived
from cernvm.fs.mount.companion import serve_beside
from cernvm.fs.mount.private import enter_private_namespace, show_folders
from cernvm.fs.mount.settings import MountSettings
from cernvm.fs.publish.repository import Repository
from cernvm.fs.publish.serving import RepositoryServer
from cernvm.fs.reader import ReaderSettings
from cernvm.fs.reader.settings import NOTHING_AHEAD
from cernvm.fs.vfs import ViewSettings
from cernvm.net import NetSettings

log = logging.getLogger(__name__)

TOP = Path("/cvmfs")
END_DEADLINE_S = 10.0
_REPORT_LIMIT_BYTES = 64 * 1024
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as shells have it


@dataclass(frozen=True, slots=True)
class Recorded:
    """How the command ended, as `subprocess` tells it, and what it read of the repository first, in order."""

    status: int
    reads: tuple[FirstRead, ...]


def record_command(
    repository: Repository,
    command: Sequence[str],
    *,
    logs: Path,
    beside: Sequence[MountSettings] = (),
) -> Recorded:
    """Run a command that sees the repository, and those `beside` it, below /cvmfs; returns when it has ended.

    The command has this process's terminal, streams, user and folder; `logs` is the folder of the mounts' log files.
    Errors: `PrerequisiteError` where no mount can be made here, and those of mounting.
    Concurrency: this process must have one thread; afterwards it is the parent of what the command left running.
    """
    with (
        tempfile.TemporaryDirectory(prefix="cvm-record-", ignore_cleanup_errors=True) as folder,
        RepositoryServer("127.0.0.1", 0, lambda: {repository.name: repository.storage}) as server,
    ):
        record = Path(folder) / "reads"
        settings = _settings(repository, server.port, Path(folder), record)
        others = [replace(other, point=TOP / other.repository) for other in beside]
        adopt_orphans()
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            _become([settings, *others], list(command), logs, theirs)
        os.close(theirs)
        with _serving(server):
            status = _wait(child, ours)
            _reap_until(time.monotonic() + END_DEADLINE_S)
        return Recorded(status, _read_record(record))


def _settings(repository: Repository, port: int, folder: Path, record: Path) -> MountSettings:
    client = ClientSettings(
        repository.name,
        NetSettings(f"http://127.0.0.1:{port}/cvmfs/{repository.name}"),
        CacheSettings(folder / "cache"),
        ReaderSettings((repository.keys.public,), NOTHING_AHEAD),
        ViewSettings(record=record),
    )
    return MountSettings(client, TOP / repository.name, folder / "run")


def _become(mounts: list[MountSettings], command: list[str], logs: Path, channel: int) -> Never:
    """In the child: nothing may come back from here."""
    try:
        enter_private_namespace()
        show_folders(TOP, [settings.repository for settings in mounts])
        serve_beside(mounts, logs)
        # Python ignores these; the command expects them as it would have had them without us.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606  # this is what was asked for
    except CvmError as error:
        Report(channel).failed(error)
        os._exit(1)
    except OSError as error:
        sys.stderr.write(f"cvm: {command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        os._exit(_NOT_FOUND if is_missing else _NOT_EXECUTABLE)
    except BaseException:
        log.exception("record.failed")
        raise
    finally:
        os._exit(1)


@contextmanager
def _serving(server: RepositoryServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), name="serve", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def _wait(child: int, channel: int) -> int:
    """The command's exit status, negative for a signal; an error that kept it from being run is raised."""
    interrupted = False
    while True:
        try:
            _, status = os.waitpid(child, 0)
            break
        except KeyboardInterrupt:
            interrupted = True  # the terminal sent it to the command as well, which decides
    with os.fdopen(channel, "rb") as reader:
        line = reader.read(_REPORT_LIMIT_BYTES)
    if line:
        raise revived(json.loads(line))
    if interrupted:
        raise KeyboardInterrupt
    return os.waitstatus_to_exitcode(status)


def _reap_until(deadline: float) -> None:
    """Wait for the processes that served the mounts: they end with the command, and their files are ours to remove."""
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(0.02)
    log.warning("record.still_running", extra=fields(after_s=END_DEADLINE_S))


def _read_record(record: Path) -> tuple[FirstRead, ...]:
    try:
        with record.open("rb") as file:
            return parse_reads(file.read(MAX_RECORD_BYTES))
    except FileNotFoundError:
        raise UnavailableError("the mount that should have recorded was not made") from None
