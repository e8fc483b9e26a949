"""A publisher whose store fails: what was served is served on, and the next publication is right."""

import os
import random
import shutil
import socket
import struct
import threading
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from cernvm.core import linux
from cernvm.core.errors import DeniedError, HostError, UnavailableError
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.keys import Keys, create_keys
from cernvm.fs.publish.publishing import publish_tree
from cernvm.fs.publish.repository import new_repository, open_storage
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.store.local import LocalStore
from cernvm.fs.survey.reading import read_tags
from system.buckets import BucketServer

NAME = "t.cernvm.test"


class FlakyRelay:
    """Passes connections on to a server; of its answers a share is a reset, an error 500, or cut in the middle."""

    def __init__(self, port, *, seed):
        self._target, self._dice, self.share = port, random.Random(seed), 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.faults = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pass, args=(source, sink, is_answer), daemon=True
                ).start()

    def _pass(self, source, sink, is_answer):
        with suppress(OSError):
            while block := source.recv(65536):
                if is_answer and self._dice.random() < self.share:
                    self.faults += 1
                    self._fail(sink, block)
                    break
                sink.sendall(block)
        for channel in (source, sink):
            with suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
            channel.close()

    def _fail(self, sink, block):
        match self._dice.randrange(3):
            case 0:
                sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case 1:
                sink.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            case 2:
                sink.sendall(block[: len(block) // 2])


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    server = BucketServer("s3rver", tmp_path_factory.mktemp("s3rver"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def made_keys(tmp_path_factory):
    keys = Keys(tmp_path_factory.mktemp("keys"), NAME)
    create_keys(keys, now=datetime.now(UTC))
    return keys


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    for number in range(30):
        (root / "sub" / f"{number}").write_bytes(os.urandom(2000))
    return root


@pytest.fixture
def made(home, made_keys, tmp_path, request):
    """Makes the repository in a store."""
    shutil.copytree(made_keys.folder, home.keys)

    def make(location):
        repository = new_repository(home, NAME, storage=location)
        create_repository(home, repository)
        return repository

    return make


def revision(repository, store):
    """The served revision, of which everything named is there."""
    manifest = read_manifest(repository, store)
    if manifest.history is not None:
        assert read_tags(manifest, store)[0].revision <= manifest.revision
    return manifest.revision


def test_a_server_that_fails_now_and_then_is_asked_again(made, bucket, tree, tmp_path):
    relay = FlakyRelay(bucket.port, seed=20261121)
    try:
        endpoint = f"http://127.0.0.1:{relay.port}"
        location = bucket.location(
            tmp_path / "s3.toml", "flaky", endpoint=endpoint, attempts=12, timeout_s=20
        )
        repository = made(location)
        relay.share = 0.1
        publish_tree(repository, open_storage(repository), tree)
        relay.share = 0.0

        assert relay.faults > 3
        assert revision(repository, open_storage(repository)) == 1
    finally:
        relay.close()


def test_a_server_killed_in_the_middle_has_the_last_revision_afterwards(
    made, tree, tmp_path, count
):
    server = BucketServer("s3rver", tmp_path / "s3rver")
    dice = random.Random(20261121)
    try:
        repository = made(server.location(tmp_path / "s3.toml", "killed", attempts=2, timeout_s=5))
        store = open_storage(repository)
        served, failed = 0, 0
        for number in range(count(20)):
            (tree / "number").write_text(str(number))
            (tree / f"more{number}").write_bytes(os.urandom(1000))
            # s3rver replaces files in place: what it was writing when it was killed is no fault of ours
            killer = threading.Timer(dice.uniform(0.02, 1.0), server.kill)
            killer.start()
            try:
                publish_tree(repository, store, tree)
            except UnavailableError:
                failed += 1
            finally:
                killer.join()
            server.start()
            found = revision(repository, store)
            assert found in (served, served + 1)
            served = found
        (tree / "last").write_text("last")
        publish_tree(repository, open_storage(repository), tree)

        assert failed
        assert revision(repository, store) == served + 1
    finally:
        server.close()


def test_a_disk_that_became_read_only_is_named_and_served_on(made, tree, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    linux.mount("tmpfs", disk, "tmpfs", options="size=20m")
    try:
        repository = made(str(disk / "srv"))
        store = LocalStore(disk / "srv")
        publish_tree(repository, store, tree)
        linux.mount("none", disk, flags=linux.MS_REMOUNT | linux.MS_RDONLY)
        (tree / "new").write_bytes(b"new")
        with pytest.raises((DeniedError, HostError), match="Read-only"):
            publish_tree(repository, LocalStore(disk / "srv"), tree)
        assert revision(repository, store) == 1
        linux.mount("none", disk, flags=linux.MS_REMOUNT)
        publish_tree(repository, LocalStore(disk / "srv"), tree)
        assert revision(repository, store) == 2
    finally:
        linux.umount(disk)
