"""What every site network promises, asked of the twin and of the real one."""

import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network

import pytest

from cernvm.core.errors import AddressInUseError, InvalidInputError
from cernvm.core.linux import CLONE_NEWNET, setns, unshare
from cernvm.site.bridge import BridgeNetwork
from cernvm.site.network import METADATA_ADDRESS, LoopbackNetwork
from conftest import missing


@pytest.fixture(params=["loopback", "bridge"])
def network(request):
    if request.param == "bridge" and os.geteuid() != 0:
        missing("network namespaces need root here, or a user namespace")
    network = LoopbackNetwork() if request.param == "loopback" else BridgeNetwork()
    yield network
    network.close()


def elsewhere(work):
    """Do `work` in a thread that then ends."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result(10)


@pytest.fixture
def instance():
    """The network namespace of an instance, as a descriptor."""

    def make():
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    if os.geteuid() != 0:
        missing("network namespaces need root here, or a user namespace")
    descriptor = elsewhere(make)
    yield descriptor
    os.close(descriptor)


def test_the_gateway_is_the_first_address(network):
    assert network.gateway == network.subnet[1]


@pytest.mark.parametrize("port", [0, 80])
def test_a_listener_is_ready_and_does_not_block(network, port):
    with network.listen(METADATA_ADDRESS, port) as listener, pytest.raises(BlockingIOError):
        listener.accept()


def test_a_taken_port_is_named(network):
    with network.listen(network.gateway, 8000), pytest.raises(AddressInUseError, match="8000"):
        network.listen(network.gateway, 8000)


@pytest.mark.parametrize("address", ["10.77.0.0", "10.77.0.1", "10.77.0.255", "10.78.0.2"])
def test_an_instance_gets_no_address_that_is_not_an_instances(network, instance, address):
    with pytest.raises(InvalidInputError, match=address):
        network.attach(instance, IPv4Address(address))


def test_an_instance_is_attached_again_after_a_restart(network, instance):
    network.attach(instance, IPv4Address("10.77.0.2"))
    elsewhere_instance = elsewhere(
        lambda: (unshare(CLONE_NEWNET), os.open("/proc/thread-self/ns/net", os.O_RDONLY))[1]
    )
    network.attach(elsewhere_instance, IPv4Address("10.77.0.2"))
    os.close(elsewhere_instance)


def test_two_networks_of_one_machine_do_not_meet(instance):
    first, second = BridgeNetwork(), BridgeNetwork(IPv4Network("10.77.0.0/24"))
    with first.listen(METADATA_ADDRESS, 80) as one, second.listen(METADATA_ADDRESS, 80) as two:
        second.attach(instance, IPv4Address("10.77.0.2"))

        def connect():
            setns(instance, CLONE_NEWNET)
            return socket.create_connection((str(METADATA_ADDRESS), 80), 5)

        elsewhere(connect).close()

        connection, (source, _) = two.accept()
        connection.close()
        assert source == "10.77.0.2"
        with pytest.raises(BlockingIOError):
            one.accept()
    first.close()
    second.close()


def test_only_an_instances_root_reaches_the_metadata_service(instance):
    network = BridgeNetwork()
    network.attach(instance, IPv4Address("10.77.0.2"))

    def connect_as(uid, address):
        """In a child: a thread that became another user would not be that user for long."""

        def enter():
            setns(instance, CLONE_NEWNET)
            script = f"import socket; socket.create_connection(('{address}', 80), 5)"
            return subprocess.run(
                ["/usr/bin/python3", "-I", "-c", script],
                user=uid,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )

        return elsewhere(enter)

    with network.listen(METADATA_ADDRESS, 80), network.listen(network.gateway, 80):
        assert connect_as(0, METADATA_ADDRESS).returncode == 0
        assert "Permission denied" in connect_as(1000, METADATA_ADDRESS).stderr
        assert connect_as(1000, network.gateway).returncode == 0
    network.close()


def test_a_subnet_without_room_is_refused():
    with pytest.raises(InvalidInputError, match="no room"):
        BridgeNetwork(IPv4Network("10.77.0.0/31"))


def test_the_sites_network_holds_no_way_out(instance):
    network = BridgeNetwork()
    network.attach(instance, IPv4Address("10.77.0.2"))

    def look():
        setns(instance, CLONE_NEWNET)
        with open("/proc/thread-self/net/route") as routes:
            return [line.split()[1] for line in routes][1:]

    assert sorted(elsewhere(look)) == [
        "00004D0A",
        "FEA9FEA9",
    ]  # the subnet and the metadata address
    network.close()
