"""Everything that a catalog can say of a path, shown by the view as it was said."""

import stat

import pytest

from attack.fs_reader.forge import CatalogMaker, Client, Forge, directory, entry
from cernvm.core.digest import Algorithm
from cernvm.fs.format.compress import Compression, deflate
from cernvm.fs.format.entry import EntryFlag
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.vfs import View

FIFO, SOCKET, DEVICE = 0o010600, 0o140700, 0o020666
SPECIAL = EntryFlag.FILE | EntryFlag.SPECIAL


def client_of(entries, **more):
    return Client(more.pop("forge").publish(CatalogMaker(entries=entries, **more)).documents)


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("size", [0, 10, 400_000])
def test_objects_of_any_algorithm_and_compression_are_read(algorithm, compression, size):
    forge, content = Forge(), b"x" * size
    stored = content if compression is Compression.NONE else deflate(content)
    digest = algorithm.digest(stored)
    forge.documents[object_path(digest, ObjectKind.PLAIN)] = stored
    client = client_of(
        {b"/file": entry(b"file", size=size, digest=digest, compression=compression)}, forge=forge
    )

    assert client.read(client.mount(), b"/file") == content


def test_the_members_of_a_hard_link_group_are_one_inode():
    forge = Forge()
    linked = {"hardlink_group": 7, "link_count": 2}
    client = client_of(
        {
            b"/one": forge.file(b"one", b"content", **linked),
            b"/two": forge.file(b"two", b"content", **linked),
            b"/other": forge.file(b"other", b"content"),
        },
        forge=forge,
    )
    view = client.mount()
    one, two, other = (client.inode(view, path) for path in (b"/one", b"/two", b"/other"))

    assert one == two != other
    assert view.attributes(one).link_count == 2
    assert view.attributes(other).link_count == 1


@pytest.mark.parametrize(
    ("mode", "size", "rdev"), [(FIFO, 0, 0), (SOCKET, 0, 0), (DEVICE, 259, 259)]
)
def test_special_files_are_shown_with_their_device(mode, size, rdev):
    client = client_of(
        {b"/special": entry(b"special", mode=mode, size=size, flags=SPECIAL)}, forge=Forge()
    )
    view = client.mount()
    shown = view.attributes(client.inode(view, b"/special"))

    assert shown.mode == mode
    assert shown.rdev == rdev
    assert shown.size_bytes == 0
    assert stat.S_IFMT(shown.mode) == stat.S_IFMT(mode)


@pytest.mark.parametrize(
    ("mtime_s", "mtime_ns", "expected"),
    [(5, 123_456_789, 5_123_456_789), (5, None, 5 * 10**9), (-5, 1, -5 * 10**9 + 1)],
)
def test_times_are_shown_to_the_nanosecond(mtime_s, mtime_ns, expected):
    client = client_of(
        {b"/file": entry(b"file", mtime_s=mtime_s, mtime_ns=mtime_ns)}, forge=Forge()
    )
    view = client.mount()

    assert view.attributes(client.inode(view, b"/file")).mtime_ns == expected


def test_stored_attributes_are_listed_and_read():
    stored = {b"user.\xff": b"\0value", b"user.empty": b""}
    client = client_of({b"/file": entry(b"file", xattrs=stored)}, forge=Forge())
    view = client.mount()
    inode = client.inode(view, b"/file")

    assert set(view.xattr_names(inode)) >= set(stored)
    assert {name: view.xattr(inode, name) for name in stored} == stored


def test_a_hidden_snapshot_shows_an_older_revision():
    """A bind mountpoint has the root catalog of another revision below it, with its own paths."""
    forge = Forge()
    deep = CatalogMaker(b"/nested", {b"/nested/deep": forge.file(b"deep", b"deep then")})
    then = CatalogMaker(
        entries={
            b"/file": forge.file(b"file", b"then"),
            b"/nested": directory(b"nested"),
        },
        nested=[(b"/nested", forge.catalog(deep))],
    )
    bound = EntryFlag.DIRECTORY | EntryFlag.BIND_MOUNTPOINT | EntryFlag.HIDDEN
    client = client_of(
        {
            b"/file": forge.file(b"file", b"today"),
            b"/.past": directory(b".past"),
            b"/.past/v1": entry(b"v1", mode=0o40755, size=4096, flags=bound),
        },
        binds=[(b"/.past/v1", forge.catalog(then))],
        forge=forge,
    )
    view = client.mount()

    assert client.names(view, b"/.past") == set()
    assert client.read(view, b"/file") == b"today"
    assert client.read(view, b"/.past/v1/file") == b"then"
    assert client.read(view, b"/.past/v1/nested/deep") == b"deep then"
    assert client.names(view, b"/.past/v1") == {b"file", b"nested"}


def test_a_variant_link_leads_where_the_variable_says():
    flags = EntryFlag.FILE | EntryFlag.SYMLINK
    link = entry(b"link", mode=0o120777, size=1, flags=flags, symlink=b"$(ARCH:-x86_64)/$(GONE)")
    client = client_of({b"/link": link}, forge=Forge())
    client.mount()
    for variables, target in (({}, b"x86_64/"), ({"ARCH": "arm"}, b"arm/")):
        view = View(client.repository, variables=variables)
        inode = client.inode(view, b"/link")
        assert view.readlink(inode) == target
        assert view.attributes(inode).size_bytes == len(target)
