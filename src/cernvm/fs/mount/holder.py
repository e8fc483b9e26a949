"""Keeps a mount's descriptors while the processes that serve it come and go; starts the next when one died.

Run as a script with the channel to the serving process as its standard input. It stays small: nothing of this package
is imported, and it understands nothing of what it keeps.
Source: docs/formats/hand-over.md
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from types import FrameType

# Then readers get an error; one that starts on a busy machine has longer, within the readers' usual deadline.
VACANT_LIMIT_S = 10.0
VACANT_WITH_CANDIDATE_LIMIT_S = 25.0
YIELD_LIMIT_S = 2.0
OPENING_LIMIT_S = 60.0
LONG_LIFE_S = 0.25  # a request that ends whoever reads it does so at once
MOST_SHORT_LIVES = 10
LONGEST_PAUSE_S = 2.0
LOOK_S = 1.0

_MESSAGE_BYTES = 64 * 1024
_MOST_DESCRIPTORS = 8


class Server:
    """A process that serves the mount, or is about to. Errors: `OSError` when there is none of that id."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self.channel = channel
        self.pid = pid
        self.since = time.monotonic()
        self.is_ready = False
        self._pidfd = os.pidfd_open(pid)

    def tell(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send; a process that is gone is found by its channel's end."""
        with suppress(OSError):
            socket.send_fds(self.channel, [message], descriptors, socket.MSG_DONTWAIT)

    def kill(self) -> None:
        """End the process, if it still runs."""
        with suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    @property
    def is_dead(self) -> bool:
        """Whether it was killed, although a thread of it may still wait in the kernel, and so keep its files open.

        Such a thread waits for a page, or a directory, that a reader holds until the next process answers it.
        """
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X")
        except OSError:
            return True

    def close(self) -> None:
        """Let go of it."""
        self.channel.close()
        os.close(self._pidfd)


class Holder:
    """At most one server in office and one candidate; `run` returns when the mount is over or given up."""

    def __init__(self, server: Server) -> None:
        self.server: Server | None = server
        self._candidate: Server | None = None
        self._kept: tuple[int, ...] = ()
        self._command: list[str] = []
        self._short_lives = 0
        self._vacant_since = 0.0
        self._start_at = 0.0
        self._yield_by = 0.0
        self._is_over = False

    def run(self) -> None:
        """Hold, until it is over. The caller's exit closes what is kept, which ends the mount."""
        while not self._is_over:
            poll = select.poll()
            watched = [server for server in (self.server, self._candidate) if server]
            for server in watched:
                poll.register(server.channel, select.POLLIN)
            if self.server is None and self._kept:
                poll.register(self._kept[0], 0)  # unmounted meanwhile: POLLERR
            ready = dict(poll.poll(self._patience_ms()))
            if self.server is None and self._kept and self._kept[0] in ready:
                return
            for server in watched:
                if server.channel.fileno() in ready:
                    self._receive(server)
            if self.server and self.server.is_dead:
                self._lose(self.server)
            self._mind_the_time(time.monotonic())

    def end(self) -> None:
        """End whoever prepares to serve what is no more."""
        if self._candidate:
            self._candidate.kill()

    def _receive(self, server: Server) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(
                server.channel, _MESSAGE_BYTES, _MOST_DESCRIPTORS
            )
        except OSError:
            message, descriptors = b"", []
        for descriptor in descriptors:  # received ones are inherited unless told otherwise
            os.set_inheritable(descriptor, False)
        verb, _, words = message.partition(b"\n")
        if verb == b"keep" and descriptors and server is self.server:
            self._keep(descriptors, words)
        elif verb == b"replace" and server is self.server and not self._candidate:
            self._start(words.decode("utf-8", "surrogateescape").split("\0"))
        elif verb == b"ready" and server is self._candidate:
            server.is_ready = True
            self._appoint()
        elif verb == b"end" and server is self.server:
            self._is_over = True
        elif not verb:
            self._lose(server)

    def _keep(self, descriptors: list[int], words: bytes) -> None:
        for descriptor in self._kept:
            os.close(descriptor)
        self._kept = tuple(descriptors)
        self._command = words.decode("utf-8", "surrogateescape").split("\0")

    def _start(self, command: list[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        defaults = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE]
        try:
            pid = os.posix_spawn(
                command[0],
                command,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                setsid=True,
                setsigdef=defaults,
            )
            self._candidate = Server(ours, pid)
        except OSError as error:
            _log("holder.start_failed", str(error))
            ours.close()
            self._failed()
        else:
            self._candidate.tell(b"inherit", self._kept)
        finally:
            theirs.close()

    def _appoint(self) -> None:
        """The candidate is ready: it takes office as soon as nobody else is in it."""
        assert self._candidate
        if self.server:
            self.server.tell(b"yield\n%d" % self._candidate.pid)
            self._yield_by = time.monotonic() + YIELD_LIMIT_S
            return
        self.server, self._candidate = self._candidate, None
        self.server.since = time.monotonic()
        self.server.tell(b"go")

    def _lose(self, server: Server) -> None:
        now = time.monotonic()
        server.close()
        if server is self._candidate:
            self._candidate = None
            self._failed()
            return
        self.server = None
        self._vacant_since = now
        self._yield_by = 0.0
        if not self._kept:
            self._is_over = True
        elif self._candidate and self._candidate.is_ready:
            self._appoint()
        else:
            is_short = now - server.since < LONG_LIFE_S
            self._short_lives = self._short_lives + 1 if is_short else 0
            self._start_at = now + self._pause_s()

    def _failed(self) -> None:
        """A candidate came to nothing."""
        if self.server:
            self.server.tell(b"failed")
        else:
            self._short_lives += 1
            self._start_at = time.monotonic() + self._pause_s()

    def _pause_s(self) -> float:
        return min(0.05 * 2**self._short_lives, LONGEST_PAUSE_S) if self._short_lives else 0.0

    def _vacant_until(self) -> float:
        limit_s = VACANT_WITH_CANDIDATE_LIMIT_S if self._candidate else VACANT_LIMIT_S
        return self._vacant_since + limit_s

    def _patience_ms(self) -> int | None:
        now = time.monotonic()
        moments = [now + LOOK_S] if self.server else []
        if self._candidate:
            moments.append(self._candidate.since + OPENING_LIMIT_S)
        if self._yield_by:
            moments.append(self._yield_by)
        if self.server is None:
            moments.append(self._vacant_until())
            if not self._candidate:
                moments.append(self._start_at)
        return max(0, int((min(moments) - now) * 1000) + 1) if moments else None

    def _mind_the_time(self, now: float) -> None:
        if self._yield_by and now >= self._yield_by and self.server:
            self.server.kill()  # its channel's end follows
            self._yield_by = now + YIELD_LIMIT_S
        if self._candidate and now >= self._candidate.since + OPENING_LIMIT_S:
            self._candidate.kill()
            self._candidate.since = now
        if self.server is not None or self._is_over:
            return
        if now >= self._vacant_until() or self._short_lives > MOST_SHORT_LIVES:
            _log("holder.gave_up", "nobody could serve the mount: its readers get errors")
            self._is_over = True
        elif not self._candidate and now >= self._start_at:
            self._start(self._command)


def _log(event: str, detail: str) -> None:
    """One line of the mount's log; json would cost memory that is held for months."""
    plain = detail.translate({ord('"'): "'", ord("\\"): "/", ord("\n"): " "})
    os.write(2, f'{{"event": "{event}", "level": "warning", "detail": "{plain}"}}\n'.encode())


def main() -> None:
    """Hold for the process whose channel is the standard input and whose id is the argument."""
    pid = int(sys.argv[1])
    channel = socket.socket(fileno=os.dup(0))
    os.set_inheritable(channel.fileno(), False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    holder = Holder(Server(channel, pid))

    def asked_to_end(_number: int, _frame: FrameType | None) -> None:
        if holder.server is None:  # whoever serves ends the mount, and then this
            sys.exit()

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, asked_to_end)
    with open("/proc/self/comm", "w") as name:
        name.write("cvm-holder")
    try:
        holder.run()
    finally:
        holder.end()


if __name__ == "__main__":
    main()
