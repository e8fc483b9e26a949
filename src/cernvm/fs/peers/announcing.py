"""Peers that find each other: each announces itself on its own network (DNS-SD over multicast DNS, RFC 6762, 6763).

Anybody on that network can announce anything. So an address counts only if it is one of a local network, and with a
secret only together with its proof; and whoever is asked is believed nothing.
Source: docs/formats/peers.md, "Announcements".
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
import threading

from cernvm.core.errors import HostError, InvalidInputError, PrerequisiteError
from cernvm.fs.peers.neighbours import MAX_PEERS
from cernvm.fs.peers.peer import Peer
from cernvm.fs.peers.secret import proof, proves

try:
    from zeroconf import Error, IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf
except ImportError:  # pragma: no cover
    raise PrerequisiteError(
        "peers can find each other only with the library zeroconf",
        advice="pip install 'cernvm[peers]', or list their addresses",
    ) from None

SERVICE = "_cvm-peer._tcp.local."
_RESOLVE_MS = 2000
_LEAST_PORT = 1024


class ZeroconfNeighbours(ServiceListener):
    """Those who announce themselves for the same repository on the network of our own address."""

    def __init__(self, repository: str, own: Peer, secret: bytes | None = None) -> None:
        self._repository = repository
        self._own = own
        self._secret = secret
        self._name = f"{secrets.token_hex(8)}.{SERVICE}"
        self._found: dict[str, Peer] = {}
        self._near: tuple[Peer, ...] = ()
        self._lock = threading.Lock()
        try:
            self._zeroconf = Zeroconf(interfaces=[own.address], ip_version=IPVersion.V4Only)
        except (OSError, Error, RuntimeError) as error:
            raise InvalidInputError(
                f"peers cannot be looked for on {own.address}: {error}",
                advice="listen on an address of this machine, or list the peers' addresses",
            ) from None
        self._browser = ServiceBrowser(self._zeroconf, SERVICE, listener=self)

    def near(self) -> tuple[Peer, ...]:
        return self._near

    def announce(self, own: Peer) -> None:
        properties = {"repository": self._repository}
        if self._secret is not None:
            properties["proof"] = proof(self._secret, "announce", self._repository, str(own))
        info = ServiceInfo(
            SERVICE,
            self._name,
            port=own.port,
            addresses=[socket.inet_aton(own.address)],
            properties=properties,
            server=f"{self._name.partition('.')[0]}.local.",
        )
        try:
            self._zeroconf.register_service(info)
        except (Error, RuntimeError, TimeoutError) as error:
            raise HostError(str(own), f"cannot be announced: {error}") from None

    def close(self) -> None:
        self._zeroconf.close()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        if name == self._name:
            return
        info = zc.get_service_info(type_, name, _RESOLVE_MS)
        peer = self._believed(info) if info is not None else None
        with self._lock:
            if peer is None:
                self._found.pop(name, None)
            elif len(self._found) < MAX_PEERS or name in self._found:
                self._found[name] = peer
            self._renew()

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:  # noqa: ARG002
        with self._lock:
            self._found.pop(name, None)
            self._renew()

    def _renew(self) -> None:
        self._near = tuple(sorted({peer for peer in self._found.values() if peer != self._own}))

    def _believed(self, info: ServiceInfo) -> Peer | None:
        """The peer that is announced, if it is one of this repository that we may ask."""
        said = info.decoded_properties
        addresses = info.parsed_addresses(IPVersion.V4Only)
        if said.get("repository") != self._repository or len(addresses) != 1:
            return None
        try:
            peer = Peer(addresses[0], info.port or 0)
        except InvalidInputError:
            return None
        if not ipaddress.IPv4Address(peer.address).is_private or peer.port < _LEAST_PORT:
            return None  # nobody is to send us to strangers far away
        words = ("announce", self._repository, str(peer))
        if self._secret is not None and not proves(self._secret, said.get("proof") or "", *words):
            return None
        return peer
