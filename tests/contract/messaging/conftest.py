"""The bus in memory and over a real Prosody, behind one face for the contract suite."""

import shutil
import socket

import pytest

from cernvm.core.process import stop_child
from cernvm.messaging import MemoryNetwork
from cernvm.messaging.prosody import BusServer, ensure_account, start_prosody
from cernvm.messaging.xmpp import Account, connect_xmpp
from conftest import missing


@pytest.fixture
def anyio_backend():
    return "asyncio"


class MemoryPlace:
    def __init__(self):
        self.network = MemoryNetwork()

    def account(self, name):
        self.network.accounts.add(f"{name}@grid.test")

    def connect(self, name, resource):
        return self.network.connect(f"{name}@grid.test/{resource}", first_resend_s=0.2)


class XmppPlace:
    def __init__(self, server):
        self.server = server

    def account(self, name):
        ensure_account(self.server, name)

    def connect(self, name, resource):
        password = ensure_account(self.server, name)
        address = f"{name}@{self.server.domain}/{resource}"
        account = Account(self.server.host, self.server.port, address, password)
        return connect_xmpp(account, first_resend_s=0.2, deadline_s=10)


@pytest.fixture
def prosody(tmp_path):
    if shutil.which("prosody") is None:
        missing("prosody is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = BusServer(tmp_path / "bus", port=port)
    child = start_prosody(server)
    yield server
    stop_child(child)


@pytest.fixture(params=["memory", "xmpp"])
def place(request):
    if request.param == "memory":
        return MemoryPlace()
    return XmppPlace(request.getfixturevalue("prosody"))
