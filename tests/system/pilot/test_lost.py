"""What a pilot takes for a failure of the machine and not of the job: a file system that died under it."""

import os
import stat

import pytest

from cernvm.core.linux import mount, umount
from cernvm.fs.fuse import MemoryNode, MemoryTree
from cernvm.pilot.execution import has_lost
from system.fs_fuse.conftest import Mount, abort


@pytest.fixture
def lower(tmp_path, need_fuse):
    point = tmp_path / "lower"
    point.mkdir()
    served = Mount(point, MemoryTree({"bin/program": MemoryNode(stat.S_IFREG | 0o755, b"#!")}))
    yield served
    served.end()
    os.close(served.descriptor)


@pytest.fixture
def overlay(lower, tmp_path):
    for name in ("upper", "work", "root"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={lower.point},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    mount("overlay", tmp_path / "root", "overlay", options=options)
    yield tmp_path / "root"
    umount(tmp_path / "root", detach=True)


@pytest.mark.parametrize("role", ["program", "interpreter"])
def test_a_dead_file_system_is_noticed_directly_and_through_an_overlay(lower, overlay, role):
    places = [lower.point / "bin/program", overlay / "bin/program"]

    def lost(path):
        roles = {"program": "/bin/true", "interpreter": "/bin/true", role: str(path)}
        return has_lost(roles["program"], interpreter=roles["interpreter"])

    assert [path.read_bytes() for path in places] == [b"#!", b"#!"]
    assert [lost(path) for path in places] == [False, False]

    abort(lower.connection)

    assert [lost(path) for path in places] == [True, True]


def test_what_is_missing_is_not_lost(tmp_path):
    assert not has_lost(str(tmp_path / "no/such/program"))
    assert not has_lost("program")
