"""The storage in memory, on disk and over HTTP, behind one face."""

import socket
import threading
import time

import anyio
import pytest
import uvicorn

from cernvm.storage import Capability, StorageClient, mint_token
from cernvm.storage.disk import DiskStorage
from cernvm.storage.memory import MemoryStorage
from cernvm.storage.service import make_app

KEY = b"k" * 32


class LiveService:
    """The application on a loopback port, in a thread of this process."""

    def __init__(self, storage, **options):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            make_app(storage, KEY, **options), log_config=None, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None
        self._thread = threading.Thread(
            target=lambda: anyio.run(lambda: self._server.serve(sockets=[self._socket]))
        )
        self._thread.start()

    def client(
        self, prefix="", methods=("GET", "HEAD", "PUT", "DELETE"), max_bytes=1 << 40, **options
    ):
        until = int(time.time()) + 600
        token = mint_token(KEY, Capability(prefix, methods, until, max_bytes))
        return StorageClient(self.url, token, **options)

    def close(self):
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def disk(tmp_path):
    kept = DiskStorage(tmp_path / "outputs")
    yield kept
    kept.close()


@pytest.fixture
def service(disk):
    live = LiveService(disk)
    yield live
    live.close()


@pytest.fixture(params=["memory", "disk", "http over memory", "http over disk"])
def storage(request):
    behind = MemoryStorage() if "memory" in request.param else request.getfixturevalue("disk")
    if "http" not in request.param:
        yield behind
        return
    live = LiveService(behind)
    yield live.client()
    live.close()
