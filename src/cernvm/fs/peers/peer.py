"""A client nearby, and which of them to ask for an object first. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from cernvm.core.errors import InvalidInputError

_FIRST_PORT, _PORTS = 28_000, 1_000  # below the ports that the kernel gives to outgoing connections


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """Where a client answers its peers about one repository. Shape: `address` is IPv4, of one interface."""

    address: str
    port: int

    def __post_init__(self) -> None:
        try:
            address = ipaddress.IPv4Address(self.address)
        except ValueError:
            raise _wrong(self.address, "is no IPv4 address") from None
        if address.is_unspecified or address.is_multicast or address == _BROADCAST:
            raise _wrong(self.address, "is not the address of one machine")
        if not 0 < self.port < 65536:
            raise _wrong(str(self.port), "is no port")

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def default_port(repository: str) -> int:
    """The port on which peers of a repository answer where none is said, so that a list needs addresses only."""
    return _FIRST_PORT + zlib.crc32(repository.encode("utf-8")) % _PORTS


def parse_peer(text: str, port: int) -> Peer:
    """The peer of `ADDRESS` or `ADDRESS:PORT`; `port` where none is said. Errors: `InvalidInputError`."""
    address, colon, digits = text.partition(":")
    if not colon:
        return Peer(address, port)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        raise _wrong(text, "is no ADDRESS:PORT")
    return Peer(address, int(digits))


def ranked(peers: Iterable[Peer], path: str) -> list[Peer]:
    """The peers in the order in which all who know them ask for an object: the first one is its owner.

    Each object has an order of its own, so that the work is spread, and one peer more or less changes little
    (rendezvous hashing).
    """
    name = path.encode("ascii")
    return sorted(peers, key=lambda peer: _score(peer, name), reverse=True)


def _score(peer: Peer, name: bytes) -> bytes:
    return hashlib.blake2b(name, digest_size=8, key=str(peer).encode("ascii")).digest()


def _wrong(text: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{text[:80]!r} {reason}", advice="write a peer as ADDRESS or ADDRESS:PORT, in IPv4"
    )
