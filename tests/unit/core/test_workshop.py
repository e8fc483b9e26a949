"""Scratch folders are private, and go with their owner."""

import fcntl
import os
import stat
import tempfile

import pytest

from cernvm.core.errors import DeniedError, UnavailableError
from cernvm.core.workshop import open_scratch


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"cvm-{os.geteuid()}"


def test_a_scratch_folder_is_private_empty_and_gone_afterwards(own_place):
    with open_scratch() as one, open_scratch() as other:
        assert one != other
        assert stat.S_IMODE(own_place.stat().st_mode) == 0o700
        (one / "file").write_bytes(b"x")
    assert not one.exists()
    assert not other.exists()


def test_what_a_killed_owner_left_goes_when_the_next_one_begins(own_place):
    left = own_place / "left"
    left.mkdir(parents=True)
    own_place.chmod(0o700)
    (left / "lock").touch()
    (left / "file").touch()

    with open_scratch():
        assert not left.exists()


def test_a_place_that_others_may_enter_or_that_leads_elsewhere_is_refused(own_place, tmp_path):
    own_place.mkdir(mode=0o755)
    with pytest.raises(DeniedError, match="private"):
        open_scratch()
    own_place.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    own_place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeniedError, match="private"):
        open_scratch()


def test_a_folder_whose_owner_died_before_it_was_locked_goes_as_well(own_place):
    (own_place / "young").mkdir(parents=True)
    own_place.chmod(0o700)

    with open_scratch():
        assert not (own_place / "young").exists()


def test_nobody_waits_for_ever_for_one_who_stopped_while_sweeping(own_place, monkeypatch):
    monkeypatch.setattr("cernvm.core.workshop._PATIENCE_S", 0.1)
    own_place.mkdir(mode=0o700)
    stopped = os.open(own_place, os.O_RDONLY)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    try:
        with pytest.raises(UnavailableError), open_scratch():
            pass
    finally:
        os.close(stopped)
