"""What the site and an instance's launcher say to each other, one JSON object per packet of a socket pair.

::

    site                                        launcher
    Order                               ->
                                        <-      namespaces      (with a descriptor of the network namespace)
    go                                  ->
                                        <-      running         (with a descriptor of process 1)
                                                or failed, step, errno, path
    stop, grace_s  (at most once)       ->
                                        <-      ended, status   (as waitpid tells it), killed

A socket that closes is the last word of either side: the launcher ends the instance, the site counts it as failed.
Both ends are one version of this program and trust each other; nothing of the instance reaches this socket.
"""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

PACKET_BYTES = 64 * 1024

NAMESPACES, GO, RUNNING, FAILED, STOP, ENDED = (
    "namespaces",
    "go",
    "running",
    "failed",
    "stop",
    "ended",
)
START_INIT = "start init"  # the last step's name


class Order(NamedTuple):
    """A `MachineSpec` as its launcher needs it: plain text, and the folder that holds the writable layer."""

    instance_id: str
    hostname: str
    root: str
    folder: str
    repositories: dict[str, str]
    init: list[str]


def send(
    connection: socket.socket, what: str, *, descriptor: int | None = None, **values: Any
) -> None:
    """Say one thing, with at most one open descriptor."""
    packet = json.dumps({"what": what, **values}).encode()
    descriptors = [] if descriptor is None else [descriptor]
    socket.send_fds(connection, [packet], descriptors)


def receive(connection: socket.socket) -> tuple[dict[str, Any], int | None]:
    """The next thing said and the descriptor with it; an empty mapping when the other side has closed."""
    try:
        packet, descriptors, _, _ = socket.recv_fds(connection, PACKET_BYTES, 1)
    except ConnectionError:
        return {}, None
    return (json.loads(packet) if packet else {}), (descriptors[0] if descriptors else None)
