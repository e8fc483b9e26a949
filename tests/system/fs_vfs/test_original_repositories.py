"""What the original program wrote is shown exactly as the original program shows it."""

import hashlib
import json
import stat

import pytest

from cernvm.core.clock import Deadline
from cernvm.fs.vfs import ROOT_INODE


def walk(view, inode=ROOT_INODE, path=b""):
    """(path, attributes) of everything, found by listing."""
    yield path or b"/", view.attributes(inode)
    offset = 0
    while names := view.listing(inode, offset, Deadline.after(20)):
        for listed in names:
            if listed.name in (b".", b".."):
                continue
            view.remember(listed)
            if stat.S_ISDIR(listed.attributes.mode):
                yield from walk(view, listed.attributes.inode, path + b"/" + listed.name)
            else:
                yield path + b"/" + listed.name, listed.attributes
        offset = names[-1].offset


def shown(view, path, attributes):
    """One row of a listing, as the samples' listings have it."""
    row = {
        "path": path.decode("utf-8", "surrogateescape"),
        "mode": oct(attributes.mode),
        "size": attributes.size_bytes,
        "uid": attributes.uid,
        "gid": attributes.gid,
        "nlink": attributes.link_count,
        "mtime_ns": attributes.mtime_ns,
    }
    inode, mode = attributes.inode, attributes.mode
    if stat.S_ISREG(mode):
        row["sha256"] = digest(view, inode, attributes.size_bytes)
    if stat.S_ISLNK(mode):
        row["target"] = view.readlink(inode).decode("utf-8", "surrogateescape")
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        row["rdev"] = attributes.rdev
    if path != b"/" and (names := view.xattr_names(inode)):
        row["xattrs_hex"] = {name.decode(): view.xattr(inode, name).hex() for name in names}
    return row


def digest(view, inode, size_bytes):
    hasher = hashlib.sha256()
    part = 1 << 20
    for offset in range(0, size_bytes, part):
        hasher.update(view.read(inode, offset, part, Deadline.after(20)))
    return hasher.hexdigest()


def expected(listing):
    with listing.open(encoding="utf-8") as lines:
        return {row["path"]: row for row in map(json.loads, lines)}


def test_every_path_and_everything_about_it_equals_the_listing(view, served):
    found = {row["path"]: row for row in (shown(view, *item) for item in walk(view))}

    assert found == expected(served.listing)


def test_looking_up_each_name_gives_what_listing_gave(view):
    for path, attributes in walk(view):
        inode = ROOT_INODE
        for name in path.split(b"/")[1:] if path != b"/" else ():
            inode = view.lookup(inode, name, Deadline.after(20)).inode
        assert view.attributes(inode) == attributes


def test_reads_at_any_offset_equal_the_whole(view, seeded):
    files = [a for _, a in walk(view) if stat.S_ISREG(a.mode) and a.size_bytes > 5_000_000]
    for attributes in files[:2]:
        size = attributes.size_bytes
        whole = view.read(attributes.inode, 0, size, Deadline.after(20))
        assert len(whole) == size
        for _ in range(20):
            offset, length = seeded.randrange(size + 10), seeded.randrange(1 << 18)
            part = view.read(attributes.inode, offset, length, Deadline.after(20))
            assert part == whole[offset : offset + length]


def test_the_root_tells_about_the_repository(view, served):
    names = view.xattr_names(ROOT_INODE)

    assert view.xattr(ROOT_INODE, b"user.fqrn") == served.name.encode()
    assert all(view.xattr(ROOT_INODE, name) is not None for name in names)
    assert view.statfs().files >= 100


@pytest.mark.parametrize("name", [b"nothing", b"..", b"x" * 255])
def test_what_is_not_there_is_not_found(view, name):
    from cernvm.core.errors import NotFoundError

    with pytest.raises(NotFoundError):
        view.lookup(ROOT_INODE, name, Deadline.after(5))
