import contextlib
import json
import socket
import stat
import subprocess
import sys
import time

import pytest

from cernvm.core.errors import (
    DeadlineError,
    MessageFormatError,
    NotFoundError,
    UnavailableError,
)
from cernvm.fs.mount import talk_client
from cernvm.fs.mount.control import ControlServer, ask


def talk_to(path):
    return talk_client.say(path, "revision", deadline_s=0.5)


def refuse(question):
    raise NotFoundError("path", "/x", advice="look elsewhere")


def fail(question):
    raise OSError(24, "Too many open files", "/proc/self/fd")


@pytest.fixture
def path(tmp_path):
    server = ControlServer(
        tmp_path / "c.sock",
        {
            "echo": lambda question: question,
            "refuse": refuse,
            "fail": fail,
            "big": lambda _: {"x": "y" * 2**20},
        },
    )
    yield tmp_path / "c.sock"
    server.close()
    assert not (tmp_path / "c.sock").exists()


def test_what_fails_within_the_mount_is_told(path):
    with pytest.raises(UnavailableError, match="Too many open files"):
        ask(path, {"ask": "fail"})


def say(path, data):
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(3)
        channel.connect(str(path))
        channel.sendall(data)
        channel.shutdown(socket.SHUT_WR)
        return json.loads(channel.makefile("rb").readline())


def test_a_question_is_answered(path):
    assert ask(path, {"ask": "echo", "x": 1}) == {"ask": "echo", "x": 1}


def test_the_socket_is_its_owners_only(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_error_of_the_mount_reaches_the_asker_with_its_advice(path):
    with pytest.raises(UnavailableError, match="there is no path '/x'") as caught:
        ask(path, {"ask": "refuse"})

    assert caught.value.advice == "look elsewhere"


def test_an_unknown_question_is_told_what_can_be_asked(path):
    with pytest.raises(UnavailableError, match="echo, refuse"):
        ask(path, {"ask": "nonsense"})


@pytest.mark.parametrize(
    "junk", [b"", b"\n", b"[]\n", b"{\n", b"x" * 100_000, b"[" * 60_000 + b"\n"]
)
def test_junk_is_answered_with_an_error_and_the_next_question_is_served(path, junk):
    assert "error" in say(path, junk)
    assert ask(path, {"ask": "echo"}) == {"ask": "echo"}


def test_an_answer_beyond_the_bound_is_refused(path):
    with pytest.raises(MessageFormatError):
        ask(path, {"ask": "big"})


def test_askers_that_say_nothing_do_not_keep_others_waiting(path):
    silent = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for channel in silent:
        channel.connect(str(path))
    begin = time.monotonic()

    assert ask(path, {"ask": "echo"}) == {"ask": "echo"}

    assert time.monotonic() - begin < 1
    for channel in silent:
        channel.close()


def test_nobody_listening_and_nobody_answering_are_told_apart(tmp_path):
    with pytest.raises(NotFoundError):
        ask(tmp_path / "absent", {"ask": "echo"})

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent"))
        listener.listen(1)
        with pytest.raises(DeadlineError):
            ask(tmp_path / "silent", {"ask": "echo"}, deadline_s=0.2)


@pytest.mark.parametrize("asking", [lambda path: ask(path, {}, deadline_s=0.5), talk_to])
def test_a_mount_that_has_no_time_for_more_askers_is_not_taken_for_gone(tmp_path, asking):
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as others:
        listener.bind(str(path))
        listener.listen(1)
        for _ in range(2):
            others.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            asking(path)
        assert 0.4 < time.monotonic() - began < 2


def test_a_mount_answers_although_all_its_descriptors_are_taken(tmp_path):
    script = f"""
import os, resource, socket, subprocess, sys
from pathlib import Path
from cernvm.fs.mount.control import ControlServer
path = Path({str(tmp_path / "s")!r})
server = ControlServer(path, {{"status": lambda _: {{"fine": True}}}})
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    print("full", flush=True)
sys.stdin.read(1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"full\n"
        for _ in range(3):
            assert ask(tmp_path / "s", {"ask": "status"}) == {"fine": True}
    finally:
        process.communicate(b"x", timeout=5)
