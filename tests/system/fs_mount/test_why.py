"""`cvm why` tells the chain of a path, of a sick mount what is seen from outside, and never touches the mount."""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from cernvm.core.home import Home
from cernvm.fs.mount import recorded_mounts
from conftest import CVM

QUICK_S = 3  # 2 s are promised on a machine that does nothing else


@pytest.fixture
def record(home):
    """What is recorded of the one mount."""

    def read():
        (found,) = recorded_mounts(home.run)
        return found

    return read


@pytest.fixture
def why(cvm):
    """Ask, within the promised time; gives the process and what it said as JSON."""

    def ask(path, *, check=True):
        begin = time.monotonic()
        finished = cvm("why", path, "--json", check=check)
        assert time.monotonic() - begin < QUICK_S
        return finished, json.loads(finished.stdout)

    return ask


def test_the_chain_of_a_path_is_told_whole(vectors, mount, point, why, cvm):
    mount(vectors)
    (point / "changed").read_bytes()

    _, told = why(point / "changed")

    assert told["state"] == "serving"
    assert told["next"] == [{"host": vectors.url, "proxy": "DIRECT"}]
    assert told["whitelist_s"] != 0
    assert told["cache"]["used_bytes"] > 0
    assert {"chunk", "directory", "pack"} <= set(told["ahead"]["ways"])
    assert [item["cached"] for item in told["objects"]] == [True]
    assert told["waiting"] == 0
    assert told["outside"]["process"]["state"] == "runs"
    words = cvm("why", point / "changed").stdout
    for label in ("revision", "whitelist", "hosts", "next", "cache", "ahead", "object", "process"):
        assert f"\n  {label} " in words


def test_a_mount_without_a_server_says_that_it_shows_what_is_cached(
    vectors, mount, point, cvm, why
):
    mount(vectors)
    cvm("umount", point)
    vectors.stop()
    mount(vectors)

    _, told = why(point / "changed")

    assert told["checked_age_s"] is None
    assert "refused" in told["revision_error"]
    assert "from the cache" in cvm("why", point / "changed").stdout


def test_a_stopped_process_is_seen_from_outside_and_can_be_unmounted(
    vectors, mount, point, cvm, why, record
):
    mount(vectors)
    pid = record().process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        finished, told = why(point / "data/never-looked-up", check=False)
        assert finished.returncode == 30
        assert "is stopped" in finished.stderr
        assert told["outside"]["process"]["state"] == "is stopped"
        assert told["outside"]["holder"]["state"] == "runs"

        begin = time.monotonic()
        cvm("umount", "--force", point)
        assert time.monotonic() - begin < QUICK_S
    finally:
        if record_lives(pid):
            os.kill(pid, signal.SIGCONT)


def record_lives(pid):
    return os.path.exists(f"/proc/{pid}")


def test_a_dead_mount_says_so_and_what_to_do(vectors, mount, point, why, record):
    mount(vectors, "--no-holder")
    os.kill(record().process.pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while record().process.is_alive and time.monotonic() < end:
        time.sleep(0.02)

    finished, told = why(point / "changed", check=False)

    assert finished.returncode == 30
    assert "is dead" in finished.stderr
    assert f"cvm mount {vectors.name}" in finished.stderr
    assert told["outside"]["process"]["state"] == "is gone"
    assert told["outside"]["holder"] is None


def test_a_path_of_no_mount_is_told_apart(cvm, tmp_path):
    finished = cvm("why", tmp_path / "nothing/here", check=False)

    assert finished.returncode == 12
    assert "no mounted repository" in finished.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_learns_what_may_be_known(vectors, mount, point, cvm):
    with tempfile.TemporaryDirectory(prefix="cvm-why-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        mount(vectors, CVM_HOME=name)
        try:
            (record,) = recorded_mounts(Home(folder).run)
            finished = subprocess.run(
                [CVM, "why", str(point / "changed")], env={**os.environ, "CVM_HOME": name},
                user=65534, group=65534, extra_groups=[], cwd="/",
                capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
        finally:
            cvm("umount", "--force", point, CVM_HOME=name)

    assert finished.returncode == 14, finished.stderr
    assert "another user's" in finished.stderr
    assert f"{record.process.pid} runs" in finished.stdout
