import dataclasses
import stat

import pytest

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import NotFoundError
from cernvm.fs.format.catalog import path_key
from cernvm.fs.format.entry import Entry, EntryFlag
from cernvm.fs.vfs import inodes
from cernvm.fs.vfs.inodes import ROOT_INODE, InodeTable

REVISION, NEXT = object(), object()


def file(name=b"f", content=b"x", **more):
    digest = Algorithm.SHA1.digest(content)
    defaults = {"mode": 0o100644, "size": 1, "mtime_s": 0, "uid": 0, "gid": 0}
    flags = EntryFlag.FILE
    return Entry(name=name, flags=flags, digest=digest, **(defaults | more))


def folder(name=b""):
    return Entry(
        name=name, mode=0o40755, size=4096, mtime_s=0, uid=0, gid=0, flags=EntryFlag.DIRECTORY
    )


def inode_number(path, entry, chunks):
    return inodes.inode_number(path, path_key(path), entry, chunks)


@pytest.fixture
def table():
    return InodeTable(folder(), REVISION)


def test_the_root_is_always_known(table):
    table.forget(ROOT_INODE, 10)

    assert table.node(ROOT_INODE).path == b""


def test_the_number_depends_on_path_and_content_alone(table):
    first = table.refer(b"/f", file(), (), REVISION)

    assert first.inode == inode_number(b"/f", file(mtime_s=99), ())
    assert inode_number(b"/f", file(content=b"y"), ()) != first.inode
    assert inode_number(b"/g", file(), ()) != first.inode


def test_members_of_a_hard_link_group_are_one_inode():
    first, second = (file(name, hardlink_group=7, link_count=2) for name in (b"a", b"b"))

    assert inode_number(b"/d/a", first, ()) == inode_number(b"/d/b", second, ())
    assert inode_number(b"/e/a", first, ()) != inode_number(b"/d/a", first, ())


def test_a_directory_in_the_place_of_a_fifo_is_another_inode():
    fifo = Entry(
        name=b"x",
        mode=0o10644,
        size=0,
        mtime_s=0,
        uid=0,
        gid=0,
        flags=EntryFlag.FILE | EntryFlag.SPECIAL,
    )

    assert inode_number(b"/x", fifo, ()) != inode_number(b"/x", folder(b"x"), ())


def test_as_many_forgets_as_references_free_the_number(table):
    inode = table.refer(b"/f", file(), (), REVISION).inode
    table.refer(b"/f", file(), (), REVISION)
    table.forget(inode, 1)
    assert table.node(inode)

    table.forget(inode, 1)

    with pytest.raises(NotFoundError):
        table.node(inode)
    assert len(table) == 1


def test_two_files_never_share_a_number_even_if_their_hashes_do(table):
    numbers = set()
    for name in (b"a", b"b", b"c"):
        path = b"/" + name
        mark = (path_key(path)[0] ^ stat.S_IFREG ^ 1234567) & (2**64 - 1)
        colliding = Digest(Algorithm.SHA1, mark.to_bytes(8, "little") + bytes(12))
        entry = dataclasses.replace(file(name), digest=colliding)
        assert inode_number(path, entry, ()) == 1234567
        numbers.add(table.refer(path, entry, (), REVISION).inode)

    assert len(numbers) == 3


def test_a_node_takes_over_the_entry_of_a_revision_with_the_same_content(table):
    node = table.refer(b"/f", file(), (), REVISION)

    table.renew(node, file(mtime_s=5), (), NEXT)
    table.renew(node, file(content=b"other", mtime_s=6), (), NEXT)

    assert (node.entry.mtime_s, node.revision) == (5, NEXT)
