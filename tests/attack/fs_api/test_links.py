"""Links in a repository lead to its own files only, whoever made them and however they are read."""

import errno
import os

import pytest

from cernvm.core.errors import CvmError
from cernvm.fs.api import open_repository
from cernvm.fs.api.copying import copy_out
from system.published import published

NAME = "links.cernvm.test"


@pytest.fixture
def opened(cvm, home, tmp_path):
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder/file").write_text("inside\n")
    links = {
        "absolute": f"/cvmfs/{NAME}/folder/file",
        "relative": "folder/../folder/./file",
        "folder/up": "../folder/file",
        "chain": "relative",
        "to-folder": "folder",
        "passwd": "/etc/passwd",
        "other": "/cvmfs/other.cernvm.test/file",
        "neighbour": f"/cvmfs/{NAME}.org/file",
        "climb": "../../../../../../etc/passwd",
        "sly": f"/cvmfs/{NAME}/../../etc/passwd",
        "self": "self",
        "ping": "pong",
        "pong": "ping",
        "into-itself": "into-itself/deeper",
        "through-file": "folder/file/more",
    }
    for name, target in links.items():
        (tree / name).symlink_to(target)
    with published(cvm, home, NAME, tree) as url:
        key = home.keys / f"{NAME}.pub"
        where = {"url": f"{url}/cvmfs/{NAME}", "public_keys": [key], "cache": tmp_path / "cache"}
        with open_repository(NAME, **where) as repository:
            yield repository


def test_links_inside_are_followed_and_others_never(opened, tmp_path):
    for name in ("absolute", "relative", "folder/up", "chain", "to-folder/file", "to-folder/up"):
        assert (opened / name).read_text() == "inside\n", name
        assert str((opened / name).resolve()) == "/folder/file"
    expected = {
        "passwd": errno.ENOENT, "other": errno.ENOENT, "neighbour": errno.ENOENT,
        "climb": errno.ENOENT, "sly": errno.ENOENT, "self": errno.ELOOP, "ping": errno.ELOOP,
        "into-itself": errno.ELOOP, "through-file": errno.ENOTDIR,
    }  # fmt: skip
    for name, number in expected.items():
        with pytest.raises(OSError) as raised:
            (opened / name).read_bytes()
        assert raised.value.errno == number, name
        assert (opened / name).is_symlink()
    assert len(opened.client.view._inodes) == 1


def test_a_walk_and_a_pattern_end_though_links_go_in_circles(opened):
    assert len(list(opened.root.glob("**/*"))) == 17
    assert [str(path) for path in opened.root.glob("*/file")] == ["/folder/file", "/to-folder/file"]


def test_a_copy_makes_links_and_reads_none_of_them(opened, tmp_path):
    place = tmp_path / "copy"
    list(copy_out(opened.files, b"/", place, recursive=True))

    assert os.readlink(place / "passwd") == "/etc/passwd"
    assert (place / "folder/file").read_text() == "inside\n"
    with pytest.raises(CvmError):
        list(copy_out(opened.files, b"/passwd", tmp_path / "passwd", recursive=False))
    assert not (tmp_path / "passwd").exists()
