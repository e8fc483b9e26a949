"""Sockets that listen, and why some cannot."""

import os
import socket
from pathlib import Path

import pytest

from cernvm.core.errors import AddressInUseError, DeniedError, InvalidInputError
from cernvm.net.listening import open_listener


def test_a_free_port_is_found_and_connected_to():
    with open_listener("127.0.0.1", 0) as listener:
        socket.create_connection(listener.getsockname(), 1).close()


def test_a_taken_port_is_named():
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(AddressInUseError, match=f"127.0.0.1:{port}"):
            open_listener("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(InvalidInputError, match=f"cannot listen on {host}:0"):
        open_listener(host, 0)


@pytest.fixture
def nobody():
    """Not to be root for a while."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield
    os.seteuid(user)


def test_a_port_that_only_root_may_have_is_denied(nobody):
    if Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == "0\n":
        pytest.skip("here everybody may have any port")
    with pytest.raises(DeniedError, match="127.0.0.1:1"):
        open_listener("127.0.0.1", 1)


def test_an_answer_in_two_writes_does_not_wait_for_an_acknowledgement():
    with open_listener("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname(), 1):
            accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
