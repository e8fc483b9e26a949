"""The words of `cvm` as children: what they print comes back, what they complain of becomes an error again."""

import pytest

from cernvm.box.commands import Commands, read_complaint
from cernvm.core.errors import CvmError, DeadlineError, NotFoundError, PrerequisiteError


@pytest.fixture
def commands(home):
    return Commands(home, {12: NotFoundError, 15: PrerequisiteError})


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


def test_the_last_complaint_counts():
    said = "cvm: first\n  → do this\nnoise\ncvm: second\n"
    assert read_complaint(said) == ("second", "")
    assert read_complaint("") == ("", "")
