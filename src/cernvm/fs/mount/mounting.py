"""Serving one repository at one place until it is unmounted or this process is asked to end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from cernvm.core.errors import NotFoundError
from cernvm.core.linux import limit_heaps
from cernvm.fs.client import Client, open_client
from cernvm.fs.fuse import attach, detach
from cernvm.fs.mount.office import await_turn
from cernvm.fs.mount.service import LiveMount, Service
from cernvm.fs.mount.settings import MountSettings
from cernvm.fs.mount.succession import receive_estate


def mount_repository(
    settings: MountSettings,
    *,
    ready: Callable[[LiveMount], None],
    successor: Sequence[str] = (),
) -> None:
    """Open a repository and serve it; returns when it was unmounted. `ready` is called once the mount answers.

    With the command of a `successor`, which calls `take_over`, a holder keeps the mount while processes are replaced,
    if the settings want it.
    Errors: those of `open_client` and of `attach`.
    """
    limit_heaps()
    with open_client(settings.client) as client:
        serve_mount(settings, client, ready=ready, successor=successor)


def serve_mount(
    settings: MountSettings,
    client: Client,
    *,
    ready: Callable[[LiveMount], None],
    successor: Sequence[str] = (),
) -> None:
    """Mount the client's view and answer its readers; see `mount_repository`. Errors: those of `attach`."""
    descriptor = attach(settings.point, source=settings.repository)
    try:
        service = Service(
            settings, client, descriptor, successor=successor if settings.is_held else ()
        )
    except BaseException:
        with suppress(NotFoundError):
            detach(settings.point, lazily=True)
        os.close(descriptor)
        raise
    service.run(ready)


def take_over(channel: socket.socket, *, successor: Sequence[str]) -> None:
    """Serve a mount that another process has served; `channel` leads to its holder. Returns as `mount_repository`.

    Everything is opened before the other process, if it still lives, stops to serve.
    Errors: `MessageFormatError` for what the holder hands over; those of `open_client`.
    """
    limit_heaps()
    estate = receive_estate(channel)
    with open_client(estate.settings.client, shown=estate.shown) as client:
        if await_turn(channel):
            Service(
                estate.settings,
                client,
                estate.descriptor,
                successor=successor,
                estate=estate,
                channel=channel,
            ).run(lambda _: None)
