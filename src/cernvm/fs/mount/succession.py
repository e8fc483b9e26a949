"""What a process that serves a mount leaves to the next: descriptors, and a will in a nameless file.

Source: docs/formats/hand-over.md
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass

from cernvm.core.digest import parse_digest
from cernvm.core.errors import FormatError, MessageFormatError
from cernvm.fs.cache import Breadcrumb
from cernvm.fs.fuse import Heritage, OpenLedger, RequestsInHand
from cernvm.fs.mount.settings import MountSettings
from cernvm.fs.vfs import InodeLedger

VERSION = 1

_MOST_DESCRIPTORS = 8
_MESSAGE_BYTES = 64 * 1024
_LARGEST_WILL_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Estate:
    """All that the next process needs to go on as if it were this one.

    Shape: `descriptor` is the mount's /dev/fuse; `device` its `major:minor` in mount tables; `generation` counts the
    processes, from 1; `in_hand` is None where the kernel itself sends unanswered requests again.
    """

    settings: MountSettings
    shown: Breadcrumb
    device: str
    generation: int
    minor: int
    flags: int
    descriptor: int
    inodes: int
    opened: int
    in_hand: int | None

    def send(self, channel: socket.socket, message: bytes) -> None:
        """Send `message` with all descriptors. Errors: `OSError`."""
        will = os.memfd_create("cvm-will")
        try:
            os.write(will, json.dumps(self._row()).encode())
            kept = [self.descriptor, will, self.inodes, self.opened]
            socket.send_fds(
                channel, [message], kept if self.in_hand is None else [*kept, self.in_hand]
            )
        finally:
            os.close(will)

    def _row(self) -> dict[str, object]:
        return {
            "version": VERSION,
            "settings": self.settings.to_json(),
            "shown": {
                "root_catalog": str(self.shown.root_catalog),
                "published_s": self.shown.published_s,
                "revision": self.shown.revision,
            },
            "device": self.device,
            "generation": self.generation,
            "minor": self.minor,
            "flags": self.flags,
        }


@dataclass(frozen=True, slots=True)
class Belongings:
    """What the serving process writes down as it goes, for the next one to read."""

    inodes: InodeLedger
    opened: OpenLedger
    heritage: Heritage | None = None


def receive_estate(channel: socket.socket) -> Estate:
    """What the holder hands to a new process as its first message.

    Errors: `MessageFormatError`; `OSError`, `TimeoutError` of the channel.
    """
    message, received, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, _MOST_DESCRIPTORS)
    for number in received:
        os.set_inheritable(number, False)
    if message != b"inherit" or len(received) not in (4, 5):
        raise MessageFormatError("no inheritance", where="hand-over")
    descriptor, will, inodes, opened, *in_hand = received
    try:
        row = json.loads(os.pread(will, _LARGEST_WILL_BYTES, 0))
        if row["version"] != VERSION:
            raise MessageFormatError(f"version {row['version']!r} of a will", where="hand-over")
        shown = row["shown"]
        return Estate(
            MountSettings.from_json(row["settings"]),
            Breadcrumb(
                parse_digest(shown["root_catalog"]), shown["published_s"], shown["revision"]
            ),
            row["device"],
            row["generation"] + 1,
            row["minor"],
            row["flags"],
            descriptor,
            inodes,
            opened,
            in_hand[0] if in_hand else None,
        )
    except (ValueError, KeyError, TypeError, FormatError) as error:
        raise MessageFormatError(f"an unreadable will: {error}", where="hand-over") from error
    finally:
        os.close(will)


def take_up(estate: Estate) -> Belongings:
    """Open what the process before has written down; only once that has stopped to write."""
    in_hand = None if estate.in_hand is None else RequestsInHand(estate.in_hand)
    return Belongings(
        InodeLedger(estate.inodes),
        OpenLedger(estate.opened),
        Heritage(estate.minor, estate.flags, in_hand),
    )
