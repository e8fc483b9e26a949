"""Ingestions that are killed: the last revision is whole, the next one right."""

import io
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from .conftest import read_back

INGEST = """\
import sys
from pathlib import Path
from cernvm.core.home import Home
from cernvm.fs.publish.ingest import Ingestion, ingest
from cernvm.fs.publish.repository import open_storage, read_repository
repository = read_repository(Home(Path(sys.argv[1])), "t.cernvm.test")
print("go", flush=True)
ingest(repository, open_storage(repository), Path(sys.argv[2]), Ingestion(deletes=True))
"""


def start(home, archive):
    child = subprocess.Popen(
        [sys.executable, "-c", INGEST, str(home.path), str(archive)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "go\n"
    return child


def write(archive, number, source):
    """An archive with more files than threads are left alone with; returns what it holds."""
    contents = {b"/number": str(number).encode()}
    for name in range(650):
        contents[b"/d%d/f%d" % (name % 5, name)] = source.randbytes(source.randrange(9000))
    with tarfile.open(archive, "w") as made:
        for path, data in contents.items():
            info = tarfile.TarInfo(path[1:].decode())
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return contents


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_killed_at_any_moment_the_last_revision_is_whole(
    home, repository, store, tmp_path, count, seeded
):
    archive = tmp_path / "a.tar"
    served = write(archive, 0, seeded)
    started = time.monotonic()
    start(home, archive).communicate(timeout=60)
    whole_s = time.monotonic() - started
    killed = 0
    for number in range(1, count(30) + 1):
        contents = write(archive, number, seeded)
        child = start(home, archive)
        time.sleep(seeded.uniform(0, whole_s))
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=30)
        killed += child.returncode == -signal.SIGKILL

        found, _ = read_back(repository, store, may_run_ahead=True)
        files = {path: data for path, (_, data) in found.items() if data is not None}
        if files[b"/number"] == contents[b"/number"]:
            served = contents
        assert files == served

    assert killed
    start(home, archive).communicate(timeout=60)
    found, _ = read_back(repository, store)
    assert {path: data for path, (_, data) in found.items() if data is not None} == contents
