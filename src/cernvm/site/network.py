"""A site's private network: what it asks of one, and the twin for sites without instances that run.

Instances see each other, the gateway and the metadata address; nothing else has a route. What the site serves to them
listens on sockets that `listen` makes inside this network. The real one is `bridge.BridgeNetwork`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from cernvm.core.errors import AddressInUseError, InvalidInputError
from cernvm.net.listening import open_listener

DEFAULT_SUBNET = IPv4Network("10.77.0.0/24")
METADATA_ADDRESS = IPv4Address("169.254.169.254")


class SiteNetwork(Protocol):
    """One private network; it ends with `close` or with the process, whichever comes first.

    Concurrency: any thread; calls are quick (milliseconds) and may be made from the loop.
    """

    @property
    def subnet(self) -> IPv4Network:
        """The addresses of this network; the site chooses instances' addresses from it."""

    @property
    def gateway(self) -> IPv4Address:
        """The site's own address, the first of `subnet`; the site may also listen on `METADATA_ADDRESS`."""

    def attach(self, namespace: int, address: IPv4Address) -> None:
        """Plug an instance in: `namespace` (an open descriptor of its network namespace) gets `eth0`.

        Errors: `InvalidInputError` for an address outside the subnet; `UnavailableError` where the kernel refuses.
        """

    def listen(self, address: IPv4Address, port: int) -> socket.socket:
        """A listening TCP socket inside the network, non-blocking, for the site's loop to serve.

        Errors: `AddressInUseError`. `port` 0 takes a free one.
        """

    def close(self) -> None:
        """Let go of the network; sockets from `listen` are the caller's to close."""


@dataclass(slots=True)
class LoopbackNetwork:
    """The twin: attaches nothing, and listens on a free port of the host's loopback whatever is asked for.

    `listening` tells tests where: (address, port) as asked for, to (host, port) as it is.
    """

    subnet: IPv4Network = DEFAULT_SUBNET
    attached: list[IPv4Address] = field(default_factory=list)
    listening: dict[tuple[IPv4Address, int], tuple[str, int]] = field(default_factory=dict)

    @property
    def gateway(self) -> IPv4Address:
        return self.subnet[1]

    def attach(self, namespace: int, address: IPv4Address) -> None:  # noqa: ARG002  # there is none
        check_instance_address(address, self.subnet)
        self.attached.append(address)

    def listen(self, address: IPv4Address, port: int) -> socket.socket:
        if (address, port) in self.listening:
            raise AddressInUseError(f"{address}:{port}")
        listener = open_listener("127.0.0.1", 0)
        self.listening[address, port] = listener.getsockname()
        return listener

    def close(self) -> None:
        self.listening.clear()


def check_instance_address(address: IPv4Address, subnet: IPv4Network) -> None:
    """Refuse an address that is not of the subnet, or not an instance's to have.

    Errors: `InvalidInputError`.
    """
    reserved = (subnet.network_address, subnet[1], subnet.broadcast_address)
    if address not in subnet or address in reserved:
        raise InvalidInputError(f"{address} is no instance's address in {subnet}")
