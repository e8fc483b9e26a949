"""The words of `cvm` as children: what they print comes back, what they complain of becomes an error again."""

import pytest

from cernvm.box.commands import MOST_KILLS, Commands, read_complaint
from cernvm.core.errors import CvmError, DeadlineError, HostError, NotFoundError, PrerequisiteError
from cernvm.core.home import ensure_folder


@pytest.fixture
def commands(home):
    return Commands(home, {12: NotFoundError, 15: PrerequisiteError, 30: HostError})


def test_a_command_returns_what_it_printed(commands):
    assert "one small image" in commands.run("--help").lower()


def test_a_complaint_comes_back_as_the_error_it_was(commands):
    with pytest.raises(CvmError) as caught:
        commands.run("site", "serve")
    assert isinstance(caught.value, NotFoundError)
    assert "cvm site serve" in caught.value.what
    assert "site.toml" in caught.value.what
    assert caught.value.advice


def test_a_command_that_hangs_is_ended(commands):
    with pytest.raises(DeadlineError):
        commands.run("--help", deadline_s=0.001)


def test_a_service_that_ends_at_once_tells_why(commands):
    with pytest.raises(NotFoundError) as caught:
        commands.start("site", "site", "serve")
    assert "site.toml" in caught.value.what
    commands.stop_all()


def test_a_service_that_was_killed_is_back_where_it_was(commands):
    address = commands.start("storage", "storage", "serve", "--port", "0")
    for _ in range(MOST_KILLS):
        kill(commands, "storage")
        assert commands.look_after_services() == ["storage"]
        assert commands.services["storage"].address == address
    kill(commands, "storage")
    with pytest.raises(CvmError, match="cvm storage serve was killed by SIGKILL, 4 times in all"):
        commands.look_after_services()
    commands.stop_all()


def test_a_command_waits_for_a_service_that_was_killed(commands):
    commands.start("storage", "storage", "serve", "--port", "0")
    kill(commands, "storage")
    assert commands.json("storage", "ls") == []
    commands.stop_all()


def test_a_service_that_ended_by_itself_tells_why_and_nothing_of_earlier_ones(commands):
    log = ensure_folder(commands.home.log) / "storage.log"
    log.write_text("cvm: of yesterday\n")
    commands.start("storage", "storage", "serve", "--port", "0")
    commands.services["storage"].child.terminate()
    commands.services["storage"].child.wait(10)
    with pytest.raises(CvmError) as caught:
        commands.look_after_services()
    assert "yesterday" not in caught.value.what
    commands.stop_all()


def kill(commands, name):
    child = commands.services[name].child
    child.kill()
    child.wait(10)


def test_the_last_complaint_counts():
    said = "cvm: first\n  → do this\nnoise\ncvm: second\n"
    assert read_complaint(said) == ("second", "")
    assert read_complaint("") == ("", "")
