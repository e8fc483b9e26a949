"""A helper's process, and those who wait for it, without any mount."""

import os
import threading
import time
from pathlib import Path

import pytest

from attack.fs_reader.forge import CatalogMaker, Client, Forge
from cernvm.core.clock import Deadline
from cernvm.core.errors import DeadlineError
from cernvm.fs.format.statistics import Statistics, format_statistics
from cernvm.fs.fuse.protocol import Opcode, Request
from cernvm.fs.mount.authorization import AuthorizationSettings, Authorizer
from cernvm.fs.mount.authorization_frames import Subject
from cernvm.fs.mount.authorization_helper import Helper

SUBJECT = Subject(os.geteuid(), os.getegid(), os.getpid())


@pytest.fixture
def helper(tmp_path):
    """Makes helpers of a shell script; ends them."""

    def make(text):
        program = tmp_path / "helper"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        made.append(Helper(program, "a.test", answer_deadline_s=0.5))
        return made[-1]

    made = []
    yield make
    for one in made:
        one.close()


def sleepers(seconds):
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if entry.read_bytes() == b"sleep\0%d\0" % seconds:
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


def gone_soon(seconds):
    end = time.monotonic() + 5
    while sleepers(seconds) and time.monotonic() < end:
        time.sleep(0.02)
    return not sleepers(seconds)


def test_what_a_silent_helper_has_started_ends_with_it(helper):
    seconds = 100_000 + os.getpid()
    asked = helper(f"sleep {seconds} & sleep {seconds}")

    with pytest.raises(DeadlineError):
        asked.ask("x%y", SUBJECT, Deadline.after(5))

    assert gone_soon(seconds)


READY_AND_PERMIT = """
frame() { printf '\\1\\0\\0\\0'; printf "\\\\$(printf %o ${#1})\\0\\0\\0"; printf %s "$1"; }
frame '{"cvmfs_authz_v1": {"msgid": 1, "revision": 0}}'
frame '{"cvmfs_authz_v1": {"msgid": 3, "revision": 0, "status": 0}}'
"""


def test_a_helper_that_does_not_go_when_asked_to_is_ended(helper):
    seconds = 200_000 + os.getpid()
    asked = helper(f"{READY_AND_PERMIT} sleep {seconds}")
    assert asked.ask("x%y", SUBJECT, Deadline.after(5)).is_permitted

    asked.close()

    assert gone_soon(seconds)
    assert "authorization" not in {thread.name for thread in threading.enumerate()}


def test_who_waits_for_somebody_else_s_answer_waits_no_longer_than_their_own_time(tmp_path):
    program = tmp_path / "helper"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    rows = format_statistics(Statistics())
    spoil = [("INSERT INTO statistics VALUES (?, 0)", row[:1]) for row in rows]
    spoil.append(("INSERT INTO properties VALUES ('voms_authz', 'x%y')", ()))
    client = Client(Forge().publish(CatalogMaker(b"", {}, spoil=spoil)).documents)
    authorizer = Authorizer(client.mount(), AuthorizationSettings(helper=program))
    lookup = Request(Opcode.LOOKUP, 1, 1, os.geteuid(), os.getegid(), os.getpid(), b"name\0")
    refused = []

    def admit(seconds):
        with pytest.raises(PermissionError):
            authorizer.admit(lookup, Deadline.after(seconds))
        refused.append(seconds)

    first = threading.Thread(target=admit, args=(2,))
    first.start()
    time.sleep(0.2)
    began = time.monotonic()
    admit(0.3)

    assert time.monotonic() - began < 1.5
    first.join(10)
    authorizer.close()
    assert refused == [0.3, 2]
