import hashlib
import os
import resource
import signal
import subprocess
import sys

import pytest

from cernvm.core.errors import ConflictError, DigestMismatchError, InvalidInputError, SpaceError
from cernvm.storage.disk import DiskStorage

WRITER = """
import hashlib, itertools, sys
from pathlib import Path
from cernvm.storage.disk import DiskStorage
storage = DiskStorage(Path(sys.argv[1]))
print("ready", flush=True)
for number in itertools.count():
    content = number.to_bytes(8, "big") * 40_000
    storage.put(f"jobs/{sys.argv[2]}-{number}", [content], size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest())
    print(number, flush=True)
"""


def put(storage, path, content):
    digest = hashlib.sha256(content).hexdigest()
    return storage.put(path, [content], size_bytes=len(content), sha256=digest)


@pytest.mark.soak
def test_what_was_acknowledged_survives_any_kill(tmp_path, count, seeded):
    acknowledged = []
    for turn in range(count(50)):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "o"), str(turn)], stdout=subprocess.PIPE
        )
        assert writer.stdout.readline() == b"ready\n"
        acknowledged += [
            f"jobs/{turn}-{int(writer.stdout.readline())}" for _ in range(seeded.randrange(8))
        ]
        signal.sigtimedwait([], seeded.random() / 50)
        writer.kill()
        writer.communicate()

    storage = DiskStorage(tmp_path / "o")
    for stat in storage.list():
        storage.stat(stat.path, verify=True)
    assert set(acknowledged) <= {stat.path for stat in storage.list()}
    assert list((tmp_path / "o/incoming").iterdir()) == []
    storage.close()


def test_a_full_disk_is_our_error_and_leaves_nothing(tmp_path):
    storage = DiskStorage(tmp_path / "o")
    put(storage, "a", b"x")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(SpaceError, match="jobs/big"):
            put(storage, "jobs/big", b"y" * 300_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert [stat.path for stat in storage.list()] == ["a"]
    assert list((tmp_path / "o/incoming").iterdir()) == []
    put(storage, "jobs/big", b"y" * 300_000)
    storage.close()


def test_a_folder_has_one_storage_at_a_time(tmp_path):
    storage = DiskStorage(tmp_path / "o")

    with pytest.raises(ConflictError, match="open"):
        DiskStorage(tmp_path / "o")

    storage.close()
    DiskStorage(tmp_path / "o").close()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_content_that_was_altered_on_disk_is_never_passed_as_good(tmp_path, damage):
    storage = DiskStorage(tmp_path / "o")
    stat = put(storage, "a", b"precious")
    blob = tmp_path / "o/blobs" / stat.sha256[:2] / stat.sha256
    match damage:
        case "flip":
            blob.write_bytes(b"Precious")
        case "cut":
            os.truncate(blob, 4)
        case "remove":
            blob.unlink()

    with pytest.raises((DigestMismatchError, InvalidInputError), match="a"):
        list(storage.get("a"))
    with pytest.raises((DigestMismatchError, InvalidInputError), match="a"):
        storage.stat("a", verify=True)
    put(storage, "a", b"precious")
    assert storage.stat("a", verify=True) == stat
    storage.close()


def test_what_a_crash_left_is_swept(tmp_path):
    storage = DiskStorage(tmp_path / "o")
    put(storage, "a", b"x")
    storage.close()
    (tmp_path / "o/incoming/tmpx").write_bytes(b"half")
    (tmp_path / "o/blobs/00").mkdir()
    (tmp_path / "o/blobs/00" / ("0" * 64)).write_bytes(b"nobody's")

    storage = DiskStorage(tmp_path / "o")

    assert list((tmp_path / "o/incoming").iterdir()) == []
    assert not (tmp_path / "o/blobs/00" / ("0" * 64)).exists()
    assert b"".join(storage.get("a")) == b"x"
    storage.close()
