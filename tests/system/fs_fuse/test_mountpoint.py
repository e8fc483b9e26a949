"""Where a mount may be made, what is said where it may not, and what a killed server leaves."""

import errno
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cernvm.core.errors import (
    ExistsError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from cernvm.fs.fuse import MemoryNode, MemoryTree, attach, detach, is_dead, mount_at, mount_of
from conftest import missing

SERVER = """
import sys
from pathlib import Path
from cernvm.fs.fuse import *
descriptor = attach(Path(sys.argv[1]), source="memory.test")
tree = MemoryTree({"f": MemoryNode(0o100644, b"content")})
Session(descriptor, tree, validity=Validity(0, 0, 0)).serve(ready=lambda: print("ready", flush=True))
"""


@pytest.fixture
def server(point):
    """A process that serves a tree at `point`."""
    processes = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(point)], stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
    if mount_at(point):
        detach(point, lazily=True)


def test_what_a_killed_server_leaves_is_dead_and_swept_by_the_next_mount(point, server):
    first = server()
    held = os.open(point / "f", os.O_RDONLY)
    first.kill()
    first.wait()

    assert is_dead(point)
    with pytest.raises(OSError) as caught:
        os.fstat(held)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    with pytest.raises(OSError):
        os.close(held)

    server()
    assert (point / "f").read_bytes() == b"content"


def test_a_live_mount_is_not_mounted_over(point, server):
    server()

    with pytest.raises(ExistsError, match="mount at") as caught:
        attach(point, source="other.test")

    assert "cvm umount" in caught.value.advice


def test_a_mount_that_does_not_answer_is_named_and_not_waited_for(point):
    descriptor = attach(point, source="memory.test")  # nobody serves it
    begin = time.monotonic()
    try:
        with pytest.raises(UnavailableError, match="took longer"):
            attach(point, source="other.test")
    finally:
        detach(point, lazily=True)
        os.close(descriptor)

    assert time.monotonic() - begin < 5


def test_only_an_existing_folder_can_be_mounted_on(tmp_path, need_fuse):
    (tmp_path / "file").touch()

    with pytest.raises(NotFoundError, match="folder"):
        attach(tmp_path / "absent", source="x.test")
    with pytest.raises(InvalidInputError, match="not a directory"):
        attach(tmp_path / "file", source="x.test")
    with pytest.raises(NotFoundError, match="mount at"):
        detach(tmp_path)


def test_a_mount_in_use_is_not_taken_away_but_by_force(point, mounted):
    mounted(MemoryTree({"f": MemoryNode(0o100644, b"content")}))

    with (point / "f").open("rb") as file:
        with pytest.raises(UnavailableError, match="in use"):
            detach(point)
        detach(point, lazily=True)
        assert file.read() == b"content"


def test_a_bind_mount_leads_to_its_file_system(point, mounted, tmp_path):
    mounted(MemoryTree({"d/f": MemoryNode(0o100644)}))
    bound = tmp_path / "bound with space"
    bound.mkdir()
    subprocess.run(["mount", "--bind", point / "d", bound], check=True)
    try:
        found = mount_of(bound / "f")
        assert (found.point, found.root, found.source) == (bound, Path("/d"), "memory.test")
        assert found.device == mount_at(point).device
    finally:
        subprocess.run(["umount", bound], check=True)


ORDINARY = 65534


def run_as_ordinary_user(script, folder, *, device_mode, in_namespace):
    """Run Python as an unprivileged user with a /dev/fuse of its own, in a mount namespace of its own."""
    for program in ("unshare", "setpriv"):
        if shutil.which(program) is None:
            missing(f"the program {program}")
    folder.chmod(0o777)
    source = folder / "script.py"
    source.write_text(textwrap.dedent(script))
    interpreter = f"setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups"
    namespace = "unshare -Urm" if in_namespace else ""
    package = Path(sys.modules["cernvm"].__file__).parent.parent
    shell = f"""
        set -e
        mount -t tmpfs none /mnt
        mknod -m {device_mode} /mnt/fuse c 10 229
        mount --bind /mnt/fuse /dev/fuse
        mkdir -m 0755 /mnt/src && mount --bind {package} /mnt/src
        mkdir -m 0755 /mnt/work && mount --bind {folder} /mnt/work
        mkdir -m 0755 /mnt/point && chown {ORDINARY} /mnt/point
        cd /mnt/work
        PYTHONPATH=/mnt/src HOME=/mnt/work exec {interpreter} {namespace} /usr/bin/python3 script.py
    """
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", shell],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


MOUNT_AND_READ = """
    import threading
    from pathlib import Path
    from cernvm.core.errors import CvmError
    from cernvm.fs.fuse import *
    point = Path("/mnt/point")
    try:
        descriptor = attach(point, source="memory.test")
    except CvmError as error:
        raise SystemExit(f"{type(error).__name__}: {error.what} -> {error.advice}")
    session = Session(descriptor, MemoryTree({"f": MemoryNode(0o100644, b"content")}),
                      validity=Validity(1, 1, 1))
    thread = threading.Thread(target=session.serve)
    thread.start()
    print((point / "f").read_text())
    detach(point)
    thread.join(5)
    print("ended", not thread.is_alive())
"""


@pytest.fixture
def world(tmp_path_factory):
    """A folder that an ordinary user reaches when it is bound to a public place."""
    return tmp_path_factory.mktemp("ordinary")


def test_an_ordinary_user_mounts_in_a_user_namespace(world, need_fuse):
    finished = run_as_ordinary_user(MOUNT_AND_READ, world, device_mode="0666", in_namespace=True)

    assert finished.stdout.split() == ["content", "ended", "True"], finished.stderr


def test_an_ordinary_user_mounts_by_the_setuid_helper(world, need_fuse):
    if shutil.which("fusermount3") is None:
        missing("the program fusermount3")
    finished = run_as_ordinary_user(MOUNT_AND_READ, world, device_mode="0666", in_namespace=False)

    assert finished.stdout.split() == ["content", "ended", "True"], finished.stderr


def test_a_device_that_one_may_not_open_is_named_with_what_to_do(world, need_fuse):
    finished = run_as_ordinary_user(MOUNT_AND_READ, world, device_mode="0600", in_namespace=False)

    assert "DeniedError: you may not open /dev/fuse -> " in finished.stderr
    assert "chmod 666 /dev/fuse" in finished.stderr
