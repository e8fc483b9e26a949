"""What every machine promises: the twin in memory and a real tree."""

import os

import pytest

from cernvm.guest.machine import FileState, LocalMachine, MemoryMachine

UID, GID = os.getuid(), os.getgid()


@pytest.fixture(params=["memory", "tree"])
def machine(request, tmp_path):
    if request.param == "memory":
        return MemoryMachine()
    (tmp_path / "tree").mkdir()
    return LocalMachine(tmp_path / "tree")


def test_nothing_is_where_nothing_was_put(machine):
    assert machine.look("/etc/none") is None
    assert machine.read("/etc/none") is None
    with pytest.raises(FileNotFoundError):
        machine.listing("/etc/none")


def test_a_file_has_the_content_mode_and_owner_it_was_written_with(machine):
    machine.write("/etc/deep/file", b"first", mode=0o644, uid=UID, gid=GID)
    machine.write("/etc/deep/file", b"second", mode=0o600, uid=UID, gid=GID)

    assert machine.read("/etc/deep/file") == b"second"
    assert machine.look("/etc/deep/file") == FileState(False, 0o600, UID, GID)
    assert machine.listing("/etc/deep") == ("file",)
    assert machine.look("/etc/deep").is_folder


def test_a_folder_has_the_mode_and_owner_it_was_made_with(machine):
    machine.make_folder("/home/pilot", mode=0o700, uid=UID, gid=GID)
    machine.write("/home/pilot/b", b"", mode=0o644, uid=UID, gid=GID)
    machine.write("/home/pilot/a", b"", mode=0o644, uid=UID, gid=GID)

    assert machine.look("/home/pilot") == FileState(True, 0o700, UID, GID)
    assert machine.listing("/home/pilot") == ("a", "b")
    assert machine.listing("/home") == ("pilot",)


def test_a_folder_is_made_once(machine):
    machine.make_folder("/home/pilot", mode=0o700, uid=UID, gid=GID)

    with pytest.raises(FileExistsError):
        machine.make_folder("/home/pilot", mode=0o700, uid=UID, gid=GID)


def test_a_file_is_no_folder(machine):
    machine.write("/etc/file", b"", mode=0o644, uid=UID, gid=GID)

    with pytest.raises(NotADirectoryError):
        machine.listing("/etc/file")


def test_a_tree_gives_no_name_to_the_running_system(tmp_path):
    before = os.uname().nodename

    assert LocalMachine(tmp_path).rename("evil") is False
    assert os.uname().nodename == before


@pytest.mark.parametrize("link", ["/etc/out", "/out/file", "/../../up"])
def test_no_path_leads_out_of_a_tree(tmp_path, link):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/out").symlink_to(outside / "file")
    (tree / "out").symlink_to(outside)
    machine = LocalMachine(tree)

    with pytest.raises(PermissionError):
        machine.read(link)
    with pytest.raises(PermissionError):
        machine.write(link, b"changed", mode=0o644, uid=UID, gid=GID)
    assert (outside / "file").read_text() == "kept"


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    machine = LocalMachine(tmp_path)
    machine.write("/file", b"old", mode=0o644, uid=UID, gid=GID)

    with pytest.raises((OSError, OverflowError)):
        machine.write("/file", b"new", mode=0o644, uid=2**32, gid=GID)

    assert machine.read("/file") == b"old"
    assert machine.listing("/") == ("file",)
