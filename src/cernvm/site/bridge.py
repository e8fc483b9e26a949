"""A site's private network as it really is: a network namespace of its own with one bridge.

No process lives in the namespace: descriptors of this process hold it, so it vanishes with the site however that ends.
Nothing leads out of it. What instances may reach are the sockets that the site opened inside.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import TypeVar

from cernvm.core.errors import InvalidInputError, PrerequisiteError, UnavailableError
from cernvm.core.linux import CLONE_NEWNET, setns, unshare
from cernvm.net.listening import open_listener
from cernvm.site.netlink import Netlink
from cernvm.site.network import (
    DEFAULT_SUBNET,
    METADATA_ADDRESS,
    check_instance_address,
)

BRIDGE = "cvm0"
INSTANCE_LINK = "eth0"

T = TypeVar("T")


class BridgeNetwork:
    """The network of a site whose instances run on this machine."""

    def __init__(self, subnet: IPv4Network = DEFAULT_SUBNET) -> None:
        """Make the namespace, its bridge and the site's addresses on it.

        Errors: `InvalidInputError` for a subnet without room; `PrerequisiteError` where this machine does not allow it.
        """
        if subnet.num_addresses < 4:
            raise InvalidInputError(f"the subnet {subnet} has no room for instances")
        self._subnet = subnet
        self._lock = threading.Lock()
        try:
            self._namespace, self._netlink = _in_new_thread(self._make)
        except OSError as error:
            raise _machine_refuses(error) from error

    @property
    def subnet(self) -> IPv4Network:
        return self._subnet

    @property
    def gateway(self) -> IPv4Address:
        return self._subnet[1]

    def attach(self, namespace: int, address: IPv4Address) -> None:
        check_instance_address(address, self._subnet)
        link = _link_name(address)
        try:
            with self._lock:
                # the namespace of an instance that just ended may take a moment to vanish, and its cable with it
                with suppress(OSError):
                    self._netlink.delete_link(link)
                self._netlink.add_veth(
                    link,
                    peer=INSTANCE_LINK,
                    peer_address=_hardware_address(address),
                    peer_namespace=namespace,
                    bridge=BRIDGE,
                )
            interface = IPv4Interface(f"{address}/{self._subnet.prefixlen}")
            _in_new_thread(lambda: _configure_instance(namespace, interface))
        except OSError as error:
            raise UnavailableError(
                f"{address} cannot be attached to the site's network: {error.strerror or error}"
            ) from error

    def listen(self, address: IPv4Address, port: int) -> socket.socket:
        def enter_and_listen() -> socket.socket:
            setns(self._namespace, CLONE_NEWNET)
            return open_listener(str(address), port)

        try:
            return _in_new_thread(enter_and_listen)
        except OSError as error:
            raise UnavailableError(
                f"the site cannot listen on {address}:{port}: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        if self._namespace >= 0:
            self._netlink.close()
            os.close(self._namespace)
            self._namespace = -1

    def _make(self) -> tuple[int, Netlink]:
        unshare(CLONE_NEWNET)
        # a new namespace may inherit the host's setting; without forwarding a packet ends where it was sent
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
        netlink = Netlink()
        try:
            netlink.set_up("lo")
            netlink.add_bridge(BRIDGE, hardware_address=_hardware_address(self.gateway))
            netlink.add_address(BRIDGE, IPv4Interface(f"{self.gateway}/{self._subnet.prefixlen}"))
            netlink.add_address(BRIDGE, IPv4Interface(METADATA_ADDRESS))
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), netlink
        except OSError:
            netlink.close()
            raise


def _in_new_thread(work: Callable[[], T]) -> T:
    """Do `work` in a thread that then ends: a thread that changed its namespace must serve nothing else."""
    with ThreadPoolExecutor(1, "site-network") as thread:
        return thread.submit(work).result()


def _configure_instance(namespace: int, interface: IPv4Interface) -> None:
    setns(namespace, CLONE_NEWNET)
    netlink = Netlink()
    try:
        netlink.set_up("lo")
        netlink.add_address(INSTANCE_LINK, interface)
        netlink.set_up(INSTANCE_LINK)
        # no default route: what is not a neighbour is "Network is unreachable" at once, not after a time-out
        netlink.add_route(METADATA_ADDRESS, through=INSTANCE_LINK)
        # user-data hold secrets, and whoever runs there may be a stranger: decision "job-isolation"
        netlink.permit_only(0, METADATA_ADDRESS)
    finally:
        netlink.close()


def _link_name(address: IPv4Address) -> str:
    return f"cvm{int(address):08x}"


def _hardware_address(address: IPv4Address) -> bytes:
    """Locally administered, the same each time an address comes up, so that neighbours' tables stay right."""
    return b"\x02\x00" + address.packed


def _machine_refuses(error: OSError) -> PrerequisiteError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return PrerequisiteError(
            "this process may not make a network namespace",
            advice="run as root, or inside a user namespace (unshare --user --map-root-user)",
        )
    return PrerequisiteError(
        f"this kernel cannot make the site's network: {error.filename or 'namespace'}: {error.strerror or error}",
        advice="the kernel needs network namespaces, bridge and veth",
    )
