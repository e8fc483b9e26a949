"""A real Prosody that tests may kill and start again at the same port."""

import shutil
import socket

import pytest

from cernvm.core.process import stop_child
from cernvm.messaging.prosody import BusServer, ensure_account, start_prosody
from cernvm.messaging.xmpp import Account, connect_xmpp
from conftest import missing


@pytest.fixture
def anyio_backend():
    return "asyncio"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LiveBus:
    def __init__(self, folder):
        self.server = BusServer(folder, port=free_port())
        self.child = start_prosody(self.server)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def restart(self):
        self.child = start_prosody(self.server)

    def connect(self, name, resource, **options):
        password = options.pop("password", None) or ensure_account(self.server, name)
        address = f"{name}@{self.server.domain}/{resource}"
        account = Account(self.server.host, self.server.port, address, password)
        return connect_xmpp(account, **{"first_resend_s": 0.2, "deadline_s": 10, **options})


@pytest.fixture
def live_bus(tmp_path):
    if shutil.which("prosody") is None:
        missing("prosody is not installed")
    bus = LiveBus(tmp_path / "bus")
    yield bus
    stop_child(bus.child)
