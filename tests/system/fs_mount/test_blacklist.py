"""A mount whose revision becomes blacklisted ends: its readers get errors, and who asks is told why."""

import json
import os
import subprocess
import sys
import time

import pytest

from cernvm.fs.cache import CacheSettings
from cernvm.fs.client.settings import ClientSettings
from cernvm.fs.mount.settings import MountSettings
from cernvm.fs.reader import Pin, ReaderSettings
from cernvm.net import NetSettings

SERVE = """
import sys
from cernvm.fs.mount import mount_repository
from cernvm.fs.mount.settings import MountSettings
settings = MountSettings.from_json(sys.stdin.read())
successor = [sys.executable, "-c", "raise SystemExit(1)"]
mount_repository(settings, ready=lambda _: print("ready", flush=True), successor=successor)
"""


@pytest.fixture
def serve(vectors, point, home, tmp_path):
    """Mount in a process of its own, with a blacklist that is empty so far; returns process and list."""
    blacklist = tmp_path / "blacklist"
    started = []

    def begin(*, pin=None, is_held=True):
        client = ClientSettings(
            vectors.name,
            NetSettings(vectors.url),
            CacheSettings(home.cache),
            ReaderSettings((vectors.key,), pin=pin or Pin(), blacklists=(blacklist,)),
        )
        settings = MountSettings(client, point, home.run, is_held=is_held)
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        process.stdin.write(settings.to_json())
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        return process, blacklist

    yield begin
    for process in started:
        with process:
            process.kill()


def row_of(cvm):
    (row,) = json.loads(cvm("mount", "--json").stdout)
    return row


@pytest.mark.parametrize("is_held", [True, False])
def test_a_mount_ends_once_its_revision_is_blacklisted(cvm, serve, vectors, point, is_held):
    process, blacklist = serve(is_held=is_held)
    (name,) = [one for one in point.iterdir() if one.is_file() and one.stat().st_size][:1]
    with name.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 1, 0)  # so that the kernel has it
        blacklist.write_text(f"<{vectors.name} 1000000")
        cvm("remount", point, check=False)
        process.wait(10)

        with pytest.raises(OSError):
            os.pread(file.fileno(), 1, 0)
    assert list(point.iterdir()) == []
    assert "blacklisted" in row_of(cvm)["state"]
    why = cvm("why", name, check=False)
    assert why.returncode != 0
    assert "blacklisted" in why.stderr
    cvm("umount", point)
    assert json.loads(cvm("mount", "--json").stdout) == []


def test_a_pinned_mount_is_looked_at_too(cvm, serve, vectors, point):
    process, blacklist = serve(pin=Pin(revision=2))
    blacklist.write_text(f"<{vectors.name} 1000000")
    cvm("remount", point, check=False)
    process.wait(10)

    assert "blacklisted" in row_of(cvm)["state"]
    cvm("umount", point)


def test_a_mount_goes_on_when_the_list_becomes_unreadable_and_shows_nothing_newer(
    cvm, serve, point
):
    _, blacklist = serve()
    before = row_of(cvm)["revision"]
    blacklist.write_text("nonsense")
    cvm("remount", point, check=False)
    time.sleep(0.2)

    assert row_of(cvm)["state"] == "mounted"
    assert row_of(cvm)["revision"] == before
    cvm("umount", point)
