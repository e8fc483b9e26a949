import os
import signal
import subprocess
import sys
import time

import pytest

from cernvm.core.errors import ConflictError, PrerequisiteError
from cernvm.core.process import (
    Record,
    check_unrecorded,
    read_record,
    record_process,
    remove_record,
    start_child,
    stop_child,
)


def test_a_child_dies_with_its_parent(tmp_path):
    script = (
        "import sys, time; from cernvm.core.process import start_child;"
        "print(start_child(['sleep', '60']).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())

    parent.kill()
    parent.wait()
    parent.stdout.close()

    end = time.monotonic() + 5
    while os.path.exists(f"/proc/{child}") and time.monotonic() < end:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{child}")


def test_a_child_that_ignores_the_request_to_end_is_killed():
    child = start_child(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
    time.sleep(0.2)

    assert stop_child(child, grace_s=0.3) == -signal.SIGKILL


def test_a_missing_program_is_named_with_its_package():
    with pytest.raises(PrerequisiteError, match="prosodyy is missing") as caught:
        start_child(["prosodyy"], package="prosody")
    assert "apt-get install prosody" in caught.value.advice


def test_a_record_finds_its_process_again_and_no_other(tmp_path):
    path = tmp_path / "run" / "x.json"
    child = start_child(["sleep", "60"])
    record = record_process(path, "sleeper", pid=child.pid, address="127.0.0.1:1")

    assert read_record(path) == record
    assert record.is_alive
    assert not Record(record.pid, record.started + 1, "another").is_alive

    child.kill()
    child.wait()
    assert not record.is_alive


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"pid": "x"}'])
def test_a_record_that_cannot_be_read_is_no_record(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)

    assert read_record(path) is None


def test_a_record_is_not_taken_from_a_living_process(tmp_path):
    path = tmp_path / "repo.json"
    child = start_child(["sleep", "60"])
    record = record_process(path, "cvm repo serve", pid=child.pid, address="127.0.0.1:1")

    with pytest.raises(ConflictError, match=f"process {child.pid} on 127.0.0.1:1"):
        check_unrecorded(path)
    remove_record(path)
    assert read_record(path) == record

    stop_child(child)
    check_unrecorded(path)


def test_a_process_removes_its_own_record(tmp_path):
    path = tmp_path / "repo.json"
    record_process(path, "cvm repo serve")

    check_unrecorded(path)
    remove_record(path)

    assert not path.exists()


def test_an_interrupt_while_a_child_is_started_is_not_lost():
    script = """
import os, signal
from cernvm.core.process import start_child
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    start_child(["sleep", "30"])
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )

    assert (done.stdout, done.stderr) == ("interrupted\n", "")
