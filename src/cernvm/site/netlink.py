"""Links, addresses, routes and rules of one network namespace, asked of the kernel over netlink.

A socket belongs for ever to the namespace of the thread that made it, so one conversation reaches one namespace from
any thread, without starting a program. Every method raises `OSError` with the kernel's errno and the link's name.
Source: rtnetlink(7), netlink(7), linux/if_link.h, linux/fib_rules.h.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

_NEW_LINK, _DELETE_LINK, _GET_LINK, _NEW_ADDRESS, _NEW_ROUTE = 16, 17, 18, 20, 24
_NEW_RULE = 32
_REQUEST, _ACKNOWLEDGE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_ERROR = 2

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF = 1, 4
_FRA_DST, _FRA_PRIORITY, _FRA_UID_RANGE = 1, 6, 20
_ACTION_TABLE, _ACTION_PROHIBIT = 1, 8
_IFF_UP = 1
_TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_LINK, _TYPE_UNICAST = 254, 3, 253, 1

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change mask
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, protocol, scope, type, flags
_RULE = struct.Struct("=BBBBBxxBI")  # family, lengths, tos, table, action, flags
_ANSWER_TIMEOUT_S = 5.0
_ANSWER_BYTES = 65536


class Netlink:
    """A conversation about the network namespace of the thread that opens it.

    Concurrency: any thread; requests take turns.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(_ANSWER_TIMEOUT_S)
        self._sequence = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the conversation."""
        self._socket.close()

    def index(self, name: str) -> int:
        """The kernel's number of a link."""
        answer = self._ask(_GET_LINK, 0, _LINK.pack(0, 0, 0, 0, 0) + _name(name), name)
        return int(_LINK.unpack_from(answer)[2])

    def add_bridge(self, name: str, *, hardware_address: bytes) -> None:
        """Make a bridge that is up; a fixed hardware address keeps neighbours' tables right as ports come and go."""
        body = (
            _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP)
            + _name(name)
            + _attribute(_IFLA_ADDRESS, hardware_address)
            + _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, b"bridge"))
        )
        self._ask(_NEW_LINK, _CREATE | _EXCLUSIVE, body, name)

    def add_veth(
        self, name: str, *, peer: str, peer_address: bytes, peer_namespace: int, bridge: str
    ) -> None:
        """Make a cable: this end `name`, up and plugged into `bridge`, the other end `peer` in another namespace."""
        other_end = (
            _LINK.pack(0, 0, 0, 0, 0)
            + _name(peer)
            + _attribute(_IFLA_ADDRESS, peer_address)
            + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        )
        cable = _attribute(_IFLA_INFO_KIND, b"veth") + _attribute(
            _IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, other_end)
        )
        body = (
            _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP)
            + _name(name)
            + _attribute(_IFLA_MASTER, struct.pack("=I", self.index(bridge)))
            + _attribute(_IFLA_LINKINFO, cable)
        )
        self._ask(_NEW_LINK, _CREATE | _EXCLUSIVE, body, name)

    def set_up(self, name: str) -> None:
        """Switch a link on."""
        body = _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _name(name)
        self._ask(_NEW_LINK, 0, body, name)

    def delete_link(self, name: str) -> None:
        """Remove a link, and with one end of a cable the other."""
        self._ask(_DELETE_LINK, 0, _LINK.pack(0, 0, 0, 0, 0) + _name(name), name)

    def add_address(self, name: str, interface: IPv4Interface) -> None:
        """Give a link an address and, by its prefix, a route to its neighbours."""
        body = (
            _ADDRESS.pack(socket.AF_INET, interface.network.prefixlen, 0, 0, self.index(name))
            + _attribute(_IFA_LOCAL, interface.ip.packed)
            + _attribute(_IFA_ADDRESS, interface.ip.packed)
            + _attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
        )
        self._ask(_NEW_ADDRESS, _CREATE | _EXCLUSIVE, body, name)

    def add_route(self, destination: IPv4Address | IPv4Network, *, through: str) -> None:
        """Reach a destination as a direct neighbour on a link."""
        network = IPv4Network(destination)
        kind = (_TABLE_MAIN, _PROTOCOL_BOOT, _SCOPE_LINK, _TYPE_UNICAST)
        body = (
            _ROUTE.pack(socket.AF_INET, network.prefixlen, 0, 0, *kind, 0)
            + _attribute(_RTA_DST, network.network_address.packed)
            + _attribute(_RTA_OIF, struct.pack("=I", self.index(through)))
        )
        self._ask(_NEW_ROUTE, _CREATE | _EXCLUSIVE, body, through)

    def permit_only(self, uid: int, destination: IPv4Address) -> None:
        """Let one user alone send to a destination; for everybody else it is "Permission denied"."""
        user = _attribute(_FRA_UID_RANGE, struct.pack("=II", uid, uid))
        self._add_rule(1, _ACTION_TABLE, destination, user)
        self._add_rule(2, _ACTION_PROHIBIT, destination, b"")

    def _add_rule(self, priority: int, action: int, destination: IPv4Address, who: bytes) -> None:
        table = _TABLE_MAIN if action == _ACTION_TABLE else 0
        body = (
            _RULE.pack(socket.AF_INET, destination.max_prefixlen, 0, 0, table, action, 0)
            + _attribute(_FRA_PRIORITY, struct.pack("=I", priority))
            + _attribute(_FRA_DST, destination.packed)
            + who
        )
        self._ask(_NEW_RULE, _CREATE | _EXCLUSIVE, body, f"rule {priority}")

    def _ask(self, kind: int, flags: int, body: bytes, name: str) -> bytes:
        with self._lock:
            self._sequence += 1
            length = _HEADER.size + len(body)
            wanted = 0 if kind == _GET_LINK else _ACKNOWLEDGE
            header = _HEADER.pack(length, kind, _REQUEST | wanted | flags, self._sequence, 0)
            self._socket.send(header + body)
            while True:
                answer = self._socket.recv(_ANSWER_BYTES)
                _, answer_kind, _, sequence, _ = _HEADER.unpack_from(answer)
                if sequence == self._sequence:
                    break  # an earlier sequence is the answer to a request that was given up
        payload = answer[_HEADER.size :]
        if answer_kind == _ERROR and (number := -struct.unpack_from("=i", payload)[0]):
            raise OSError(number, os.strerror(number), name)
        return payload


def _name(name: str) -> bytes:
    return _attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _attribute(kind: int, value: bytes) -> bytes:
    """One attribute: length (2), kind (2), the value, zeros up to a multiple of four."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
