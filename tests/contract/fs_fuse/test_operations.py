"""What every read-only file system that a session serves keeps to: the tree in memory and a repository's view."""

import errno
import os
import stat
import tarfile
from pathlib import Path

import pytest

from cernvm.core.clock import Deadline
from cernvm.fs.cache import MemoryBreadcrumbs, MemoryCache
from cernvm.fs.fuse import ROOT_INODE, MemoryNode, MemoryTree, MustWaitError
from cernvm.fs.mount.view_operations import ViewOperations
from cernvm.fs.reader import open_repository
from cernvm.fs.vfs import View
from cernvm.net import Chain, ChainFetcher, MemoryExchange

VECTORS = Path(__file__).parents[2] / "vectors/vectors.cernvm.test"


def memory_tree():
    return MemoryTree(
        {
            "changed": MemoryNode(stat.S_IFREG | 0o644, b"version two"),
            "data/just-4M": MemoryNode(stat.S_IFREG | 0o644, bytes(4194304)),
            "misc/symlink-rel": MemoryNode(stat.S_IFLNK | 0o777, b"hello.txt"),
            **{f"many/nested/f{i}": MemoryNode(stat.S_IFREG | 0o644) for i in range(50)},
        }
    )


def repository_view():
    host = "http://memory"
    with tarfile.open(VECTORS / "tree.tar.gz") as archive:
        files = {
            os.path.normpath(member.name): archive.extractfile(member).read()
            for member in archive
            if member.isfile()
        }
    repository = open_repository(
        "vectors.cernvm.test",
        fetcher=ChainFetcher(Chain((host,)), MemoryExchange({host: files})),
        cache=MemoryCache(quota_bytes=1 << 30),
        breadcrumbs=MemoryBreadcrumbs(),
        master_keys=[(VECTORS / "keys/vectors.cernvm.test.pub").read_bytes()],
        deadline=Deadline.after(20),
    )
    return ViewOperations(View(repository, variables={}))


@pytest.fixture(params=[memory_tree, repository_view])
def operations(request):
    return request.param()


def patiently(verb, *arguments):
    """Ask as a session does: at once, and again with a deadline where that does not do."""
    try:
        return verb(*arguments, None)
    except MustWaitError:
        return verb(*arguments, Deadline.after(10))


def find(operations, path):
    inode = ROOT_INODE
    for name in path.split(b"/"):
        found = patiently(operations.lookup, inode, name)
        inode = found.inode
    return found


def test_the_root_is_a_directory_with_the_first_number(operations):
    root = operations.attributes(ROOT_INODE, None)

    assert root.inode == ROOT_INODE
    assert stat.S_ISDIR(root.mode)


def test_a_name_that_does_not_exist_is_none(operations):
    assert patiently(operations.lookup, ROOT_INODE, b"absent") is None


def test_an_inode_that_is_not_known_is_stale_and_no_name_of_it_absent(operations):
    for verb, arguments in (
        (operations.lookup, (b"absent",)),
        (operations.attributes, ()),
        (operations.children, (0,)),
        (operations.read, (0, 100)),
    ):
        with pytest.raises(OSError, match=".") as refused:
            list(patiently(verb, 123_456_789, *arguments))
        assert refused.value.errno == errno.ESTALE, verb.__name__


def test_a_file_is_read_from_any_offset_and_ends_where_it_ends(operations):
    found = find(operations, b"data/just-4M")

    whole = b"".join(
        patiently(operations.read, found.inode, offset, 1 << 20)
        for offset in range(0, found.size_bytes, 1 << 20)
    )
    assert len(whole) == found.size_bytes == 4194304
    assert patiently(operations.read, found.inode, 4194300, 100) == whole[-4:]
    assert patiently(operations.read, found.inode, 4194304, 100) == b""
    assert patiently(operations.read, found.inode, 1000, 50) == whole[1000:1050]


def test_an_inode_shows_what_its_name_showed(operations):
    for path in (b"changed", b"many/nested", b"misc/symlink-rel"):
        found = find(operations, path)
        shown = operations.attributes(found.inode, None)
        assert (shown.inode, shown.mode, shown.size_bytes) == (
            found.inode,
            found.mode,
            found.size_bytes,
        )


def test_content_comes_as_a_file_of_its_size_or_not_at_all(operations):
    found = find(operations, b"data/just-4M")
    patiently(operations.read, found.inode, 0, 100)

    descriptor = operations.backing(found.inode, found.size_bytes)

    if descriptor is not None:
        assert os.fstat(descriptor).st_size == found.size_bytes
        os.close(descriptor)
    assert operations.backing(found.inode, found.size_bytes + 1) is None
    assert not operations.is_uncached(found.inode)


def test_what_does_not_change_may_be_remembered(operations):
    generation = operations.generation

    find(operations, b"changed")

    assert generation is not None
    assert operations.generation == generation


def test_a_link_has_its_target(operations):
    found = find(operations, b"misc/symlink-rel")

    assert operations.target(found.inode, None) == b"hello.txt"
    assert found.size_bytes == len(b"hello.txt")


def test_a_directory_may_be_listed_one_name_at_a_time(operations):
    folder = find(operations, b"many/nested").inode
    names, offset = [], 0

    while children := list(patiently(operations.children, folder, offset)):
        names.append(children[0].name)
        offset = children[0].offset

    assert names[:2] == [b".", b".."]
    assert len(set(names)) == len(names) > 3
    assert names == [child.name for child in patiently(operations.children, folder, 0)]


def test_a_listed_name_is_looked_up_as_it_was_listed(operations):
    folder = find(operations, b"many/nested").inode

    for child in patiently(operations.children, folder, 0):
        if child.name not in (b".", b".."):
            found = patiently(operations.lookup, folder, child.name)
            assert (found.inode, found.mode) == (child.attributes.inode, child.attributes.mode)


def test_references_are_given_and_taken_back(operations):
    found = find(operations, b"changed")
    (listed,) = [c for c in patiently(operations.children, ROOT_INODE, 0) if c.name == b"changed"]
    operations.remember(listed)

    operations.forget(found.inode, 1)
    assert operations.attributes(found.inode, None).inode == found.inode
    operations.forget(found.inode, 1)
    assert find(operations, b"changed").inode == found.inode


def test_an_attribute_that_is_not_there_is_nodata(operations):
    found = find(operations, b"changed")

    with pytest.raises(OSError) as caught:
        patiently(operations.xattr, found.inode, b"user.absent")
    assert caught.value.errno == errno.ENODATA
    assert list(patiently(operations.xattr_names, found.inode)) == []


def test_space_is_always_at_hand(operations):
    space = operations.space()

    assert 0 <= space.free_bytes <= space.total_bytes
