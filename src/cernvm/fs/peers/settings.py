"""What may be chosen about peers, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

MODES = ("off", "list", "zeroconf")


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Whom to exchange objects with, and how much of it.

    Shape: `addresses` and `listen` are `ADDRESS` or `ADDRESS:PORT`, IPv4; the port of a repository is `default_port` of
    its name. `listen` is where we answer; empty: the listed address that is this machine's, else the loopback's.
    `secret` is a file that all peers of a site have. `folder` holds what is kept for peers.
    Units: `head_start_s` is what a peer may cost a reader who then asks a server; `sent_bytes_per_s` 0 is no limit.
    """

    mode: str = "off"
    addresses: tuple[str, ...] = ()
    listen: str = ""
    secret: Path | None = None
    folder: Path | None = None
    depot_bytes: int = 512_000_000
    head_start_s: float = 0.1
    sent_bytes_per_s: int = 50_000_000
    max_connections: int = 32
    max_connections_of_one: int = 4


def said_peers(
    settings: PeerSettings, peers: str, listen: str = "", secret: Path | None = None
) -> PeerSettings:
    """The settings with what a user said: `off`, `zeroconf`, or addresses with commas between; what is empty stays."""
    if peers in ("off", "zeroconf"):
        settings = replace(settings, mode=peers)
    elif peers:
        settings = replace(settings, mode="list", addresses=tuple(filter(None, peers.split(","))))
    return replace(
        settings,
        listen=listen or settings.listen,
        secret=settings.secret if secret is None else secret.absolute(),
    )


def format_peers(settings: PeerSettings) -> str:
    """What a user would say to find peers in this way."""
    return ",".join(settings.addresses) if settings.mode == "list" else settings.mode
