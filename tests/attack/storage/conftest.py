"""The real service on loopback, and servers that misbehave."""

import socket
import threading
import time
from contextlib import suppress

import pytest

from cernvm.storage import Capability, StorageClient, mint_token
from cernvm.storage.disk import DiskStorage
from contract.storage.conftest import KEY, LiveService


class AttackedService(LiveService):
    """The service, impatient, with jobs' tokens and clients that are none."""

    def __init__(self, storage):
        super().__init__(storage, stall_s=0.5)
        self.storage = storage

    def token(self, prefix="jobs/7/1", methods=("HEAD", "PUT"), life_s=60, max_bytes=100, key=KEY):
        until = int(time.time()) + life_s
        return mint_token(key, Capability(prefix, methods, until, max_bytes, "7"))

    def raw(self, text):
        """What the server answers to bytes of our choice."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(text)
            answer = b""
            with suppress(ConnectionError):
                while b"\r\n\r\n" not in answer and (block := connection.recv(65536)):
                    answer += block
        return int(answer.split()[1]) if answer else 0


@pytest.fixture
def service(tmp_path):
    storage = DiskStorage(tmp_path / "outputs")
    live = AttackedService(storage)
    yield live
    live.close()
    storage.close()


class BadServer:
    """Answers every connection as `behave` says."""

    def __init__(self, behave):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._behave = behave
        self.stopped = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection):
        with connection, suppress(OSError):
            connection.recv(65536)
            self._behave(connection, self.stopped)

    def client(self):
        return StorageClient(self.url, "token", silence_s=0.5)

    def close(self):
        self.stopped.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def bad_server():
    servers = []

    def start(behave):
        servers.append(BadServer(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
