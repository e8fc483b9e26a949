import errno
import os
import threading

import pytest

from cernvm.core.errors import DeadlineError, NotFoundError, SpaceError, UnavailableError
from cernvm.fs.mount import background
from cernvm.fs.mount.background import start_in_background


def test_a_process_that_is_ready_is_heard_and_lives_on_apart_from_us(tmp_path):
    reader, writer = os.pipe()

    def serve(report):
        report.ready({"pid": os.getpid(), "session": os.getsid(0), "folder": os.getcwd()})
        os.read(reader, 1)  # until the test lets go

    heard = start_in_background(serve, tmp_path / "log", keep=(reader,)).hear()

    assert heard["session"] != os.getsid(0)
    assert heard["folder"] == "/"
    assert os.path.exists(f"/proc/{heard['pid']}")
    os.close(writer)
    os.close(reader)


def test_its_error_is_raised_here_with_its_kind_and_advice(tmp_path):
    def serve(_report):
        raise NotFoundError("server", "x", advice="name one")

    with pytest.raises(NotFoundError, match="server") as caught:
        start_in_background(serve, tmp_path / "log").hear()
    assert caught.value.advice == "name one"


def test_what_the_system_refused_it_is_told_as_what_it_is(tmp_path):
    def serve(_report):
        raise OSError(errno.ENOSPC, "No space left on device", "/x")

    with pytest.raises(SpaceError, match="No space left"):
        start_in_background(serve, tmp_path / "log").hear()


def test_one_that_dies_silently_is_told_with_the_end_of_its_log(tmp_path):
    def serve(_report):
        os.write(2, b"x" * 10_000 + b"the last words\n")
        os._exit(3)

    with pytest.raises(UnavailableError, match="ended before") as caught:
        start_in_background(serve, tmp_path / "log").hear()
    assert caught.value.advice.endswith("the last words")
    assert len(caught.value.advice) < 3000


def test_one_that_never_answers_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(background, "START_DEADLINE_S", 0.5)
    reader, writer = os.pipe()
    started = start_in_background(
        lambda _report: threading.Event().wait(60), tmp_path / "log", keep=(writer,)
    )
    os.close(writer)

    with pytest.raises(DeadlineError):
        started.hear()

    assert os.read(reader, 1) == b""  # its end of the pipe is closed, so it is gone
    os.close(reader)


def test_an_error_after_it_was_ready_goes_to_no_descriptor_of_somebody_else(tmp_path):
    reader, writer = os.pipe()

    def serve(report):
        ready = report.descriptor
        report.ready({})
        os.dup2(writer, ready)  # the number is used again
        raise NotFoundError("server", "x")

    start_in_background(serve, tmp_path / "log", keep=(writer,)).hear()
    os.close(writer)

    assert os.read(reader, 100) == b""
    os.close(reader)
