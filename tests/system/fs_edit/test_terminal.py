"""An edit at a terminal: its shell, Ctrl-C, the question at the end, and a terminal that hangs up."""

import os
import pty
import select
import time
from contextlib import contextmanager

from cernvm.fs.edit.opening import abort
from cernvm.fs.edit.publishing import differences
from conftest import CVM

from .conftest import NAME, contents
from .test_edit import _processes_with

PROMPT = b"(edit t.cernvm.test)"


class Terminal:
    """What is typed and what is seen."""

    def __init__(self, descriptor):
        self.descriptor = descriptor

    def see(self, text, seconds=20.0):
        seen, end = b"", time.monotonic() + seconds
        while text not in seen:
            assert time.monotonic() < end, seen
            if select.select([self.descriptor], [], [], 0.1)[0]:
                seen += os.read(self.descriptor, 4096)
        return seen

    def type(self, text):
        os.write(self.descriptor, text)


@contextmanager
def editing(home):
    pid, descriptor = pty.fork()
    if pid == 0:
        os.environ |= {"CVM_HOME": str(home.path), "SHELL": "/bin/bash", "TERM": "dumb"}
        os.execv(CVM, ["cvm", "repo", "edit", NAME])
    try:
        yield Terminal(descriptor)
    finally:
        os.close(descriptor)
        assert _await(pid, 10)


def _await(pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.02)
    return False


def test_a_shell_that_was_left_asks_and_publishes(bench, published, home):
    with editing(home) as terminal:
        terminal.see(PROMPT)
        terminal.type(b"echo hi > x; sleep 60\n")
        terminal.see(b"sleep 60")
        end = time.monotonic() + 5
        while not (bench.place.upper / "x").exists() and time.monotonic() < end:
            time.sleep(0.02)
        terminal.type(b"\x03")
        terminal.see(PROMPT)
        terminal.type(b"exit\n")
        assert b"+ /x" in terminal.see(b"[publish]")
        terminal.type(b"\n")
        terminal.see(b"revision   2")

    assert contents(bench)["/x"] == b"hi\n"


def test_a_terminal_that_hangs_up_leaves_only_the_changes(bench, published, home):
    with editing(home) as terminal:
        terminal.see(PROMPT)
        terminal.type(b"echo hi > x; sleep 60 & echo beg''un\n")
        terminal.see(b"begun")

    end = time.monotonic() + 5
    while _processes_with(home) and time.monotonic() < end:
        time.sleep(0.02)
    assert _processes_with(home) == []
    assert b"/x" in [one.path for one in differences(bench)]
    abort(bench)
