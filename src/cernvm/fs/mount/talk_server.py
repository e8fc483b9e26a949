"""The original's socket: a client connects, sends one command, and reads text until the end.

Anybody whom the socket's mode lets in may look; only the mounting user and root may change anything.
Source: docs/formats/talk.md
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cernvm.core.config import plain
from cernvm.core.errors import CvmError, ExistsError, NotFoundError
from cernvm.core.home import ensure_folder
from cernvm.core.log import fields
from cernvm.fs.mount.control import Answers, Question
from cernvm.fs.mount.inspection import Inspection
from cernvm.fs.mount.metrics import metric_values
from cernvm.fs.mount.stacks import stacks
from cernvm.fs.mount.talk import answer_or_error
from cernvm.fs.mount.talk_client import say, short_name

MAX_COMMAND_BYTES = 4096
EXCHANGE_DEADLINE_S = 5.0

_AT_ONCE = 8
_PEER = struct.Struct("3i")
_RETRY_S = 0.5

log = logging.getLogger(__name__)


@contextmanager
def talk_server(mount: Inspection) -> Iterator[None]:
    """Answer the original's clients while the context lasts. A mount whose socket cannot be made lives without."""
    path = mount.settings.talk or default_socket(mount.settings.run, mount.record.repository)
    try:
        ensure_folder(path.parent)
        listener = _listen(path, mount.record.point)
    except (OSError, CvmError) as error:
        log.warning("talk.unavailable", extra=fields(path=str(path), error=str(error)))
        yield
        return
    identity = os.lstat(path)
    server = threading.Thread(target=_accept, args=(listener, mount), name="talk", daemon=True)
    server.start()
    try:
        yield
    finally:
        with suppress(OSError):
            if os.path.samestat(os.lstat(path), identity):
                path.unlink()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def inspection_answers(mount: Inspection) -> Answers:
    """What the control socket, which only the mounting user reaches, answers of this room."""

    def talk(question: Question) -> Mapping[str, Any]:
        text = answer_or_error(mount, str(question.get("command", "")), may_change=True)
        return {"answer": text}

    def metrics(_question: Question) -> Mapping[str, Any]:
        return {"repository": mount.record.repository, "values": metric_values(mount)}

    def settings(_question: Question) -> Mapping[str, Any]:
        return {"settings": plain(mount.settings)}

    def stack(_question: Question) -> Mapping[str, Any]:
        return {"stacks": stacks()}

    return {"talk": talk, "metrics": metrics, "settings": settings, "stacks": stack}


def default_socket(run: Path, repository: str) -> Path:
    """Where a mount listens unless its settings say another place."""
    return run / "talk" / f"cvmfs_io.{repository}"


def _listen(path: Path, point: Path) -> socket.socket:
    """A listening socket at `path`; one where nobody listens, or the process before this one, is replaced, no other.

    Errors: `ExistsError`, `OSError`.
    """
    with suppress(FileNotFoundError):
        there = os.lstat(path)
        if not stat.S_ISSOCK(there.st_mode) or there.st_uid not in (0, os.geteuid()):
            raise ExistsError("file", str(path))
        with suppress(NotFoundError):
            if say(path, "mountpoint", deadline_s=_RETRY_S) != f"{point}\n":
                raise ExistsError("mount of the same repository that listens at", str(path))
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), 0o600)  # what the bound file's mode begins with
        with short_name(path) as name:
            listener.bind(name)
        _open_to_group(path)
        listener.listen(_AT_ONCE)
    except OSError:
        listener.close()
        raise
    return listener


def _open_to_group(path: Path) -> None:
    """Give our socket, and nothing that took its place meanwhile, the mode 0660."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        there = os.fstat(descriptor)
        if stat.S_ISSOCK(there.st_mode) and there.st_uid == os.geteuid():
            Path(f"/proc/self/fd/{descriptor}").chmod(0o660)
    finally:
        os.close(descriptor)


def _accept(listener: socket.socket, mount: Inspection) -> None:
    places = threading.BoundedSemaphore(_AT_ONCE)
    while True:
        places.acquire()
        try:
            channel, _ = listener.accept()
        except OSError:
            if listener.fileno() < 0 or not _is_listening(listener):
                return
            places.release()
            threading.Event().wait(_RETRY_S)  # no descriptor is free: this passes
            continue
        arguments = (channel, mount, places)
        try:
            threading.Thread(target=_serve, args=arguments, name="talk-answer", daemon=True).start()
        except RuntimeError:  # no more threads: the next asker waits
            _serve(*arguments)


def _is_listening(listener: socket.socket) -> bool:
    try:
        return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _serve(channel: socket.socket, mount: Inspection, places: threading.BoundedSemaphore) -> None:
    try:
        with channel:
            channel.settimeout(EXCHANGE_DEADLINE_S)
            text = channel.recv(MAX_COMMAND_BYTES).rstrip(b"\0\r\n \t").decode("utf-8", "replace")
            answer = answer_or_error(mount, text, may_change=_may_change(channel))
            channel.sendall(answer.encode("utf-8", "backslashreplace"))
    except OSError as error:
        log.info("talk.lost", extra=fields(error=str(error)))
    finally:
        places.release()


def _may_change(channel: socket.socket) -> bool:
    raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _pid, uid, _gid = _PEER.unpack(raw)
    return uid in (0, os.geteuid())
