"""Whatever happens to a tree between publications, the repository holds what the tree holds."""

import dataclasses
import os
import shutil

import pytest

from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.settings import Settings

from .conftest import check_equal, read_back

NAMES = ["a", "b", "c", ".cvmfscatalog", "ü\n"]


def paths(root, *, folders):
    found = [root] if folders else []
    for place, below, files in os.walk(root):
        found += [os.path.join(place, name) for name in (below if folders else files)]
    return [path for path in found if not os.path.islink(path)] if folders else found


def make(chosen, root):
    place = os.path.join(chosen.choice(paths(root, folders=True)), chosen.choice(NAMES))
    if os.path.lexists(place):
        return
    kind = chosen.choice(["file", "file", "folder", "folder", "link", "fifo"])
    if place.endswith("catalog"):
        kind = "file" if chosen.random() < 0.9 else "folder"
    if kind == "file":
        write(chosen, place)
    elif kind == "folder":
        os.mkdir(place)
    elif kind == "link":
        os.symlink(chosen.choice(NAMES), place)
    else:
        os.mkfifo(place)


def write(chosen, place):
    with open(place, "wb") as file:
        file.write(chosen.randbytes(chosen.choice([0, 5, 3_000, 60_000])))


def change(chosen, root):
    place = chosen.choice(paths(root, folders=True) + paths(root, folders=False))
    what = chosen.choice(["content", "mode", "time", "owner", "xattr", "links"])
    is_file = os.path.isfile(place) and not os.path.islink(place)
    if what == "content" and is_file:
        write(chosen, place)
    elif what == "mode" and not os.path.islink(place):
        os.chmod(place, chosen.choice([0o755, 0o700, 0o4711, 0o644]))
    elif what == "time":
        times = (0, chosen.randrange(-(10**18), 10**18))
        os.utime(place, ns=times, follow_symlinks=False)
    elif what == "owner" and os.geteuid() == 0:
        os.chown(place, chosen.randrange(3), chosen.randrange(3), follow_symlinks=False)
    elif what == "xattr" and not os.path.islink(place) and (is_file or os.path.isdir(place)):
        os.setxattr(place, "user.x", chosen.randbytes(chosen.randrange(9)))
    elif what == "links" and is_file:
        other = os.path.join(chosen.choice(paths(root, folders=True)), chosen.choice("lmn"))
        if not os.path.lexists(other):
            os.link(place, other)


def remove(chosen, root):
    place = chosen.choice(paths(root, folders=True)[1:] + paths(root, folders=False) or [None])
    if place is None:
        return
    if os.path.isdir(place) and not os.path.islink(place):
        shutil.rmtree(place)
    else:
        os.unlink(place)


def move(chosen, root):
    places = paths(root, folders=True)[1:] + paths(root, folders=False)
    targets = paths(root, folders=True)
    if places:
        source = chosen.choice(places)
        target = os.path.join(chosen.choice(targets), chosen.choice(NAMES))
        if not (target + "/").startswith(source + "/") and not os.path.lexists(target):
            os.rename(source, target)


ACTS = [make, make, make, change, change, remove, move]


def check_links(tree, found, at):
    """Names of one file in one directory are one file in the repository, and no others are."""
    for place, _, files in os.walk(os.fsencode(tree)):
        groups = {}
        folder = at + place[len(os.fsencode(tree)) :]
        for name in files:
            status = os.lstat(place + b"/" + name)
            if os.path.isfile(place + b"/" + name) and not os.path.islink(place + b"/" + name):
                groups.setdefault(status.st_ino, []).append(found[folder + b"/" + name][0])
        numbers = set()
        for group in groups.values():
            (number,) = {entry.hardlink_group for entry in group}
            assert {entry.link_count for entry in group} == {len(group)}
            assert (number != 0) == (len(group) > 1)
            assert number not in numbers or number == 0
            numbers.add(number)


@pytest.mark.parametrize("at", ["/", "/here/below"])
def test_the_repository_holds_what_the_tree_holds_after_any_changes(
    repository, store, tmp_path, at, count, seeded
):
    settings = Settings(
        chunk_least_bytes=4096,
        chunk_mean_bytes=8192,
        chunk_most_bytes=16384,
        most_entries=12,
        fewest_entries=4,
    )
    repository = dataclasses.replace(repository, settings=settings)
    prefix = b"" if at == "/" else at.encode()
    chosen = seeded
    tree = tmp_path / "tree"
    tree.mkdir()
    for _ in range(count(200)):
        for _ in range(chosen.randrange(1, 12)):
            chosen.choice(ACTS)(chosen, str(tree))
        published = publish_tree(repository, store, tree, options=Options(at=at))

        found, manifest = read_back(repository, store)
        assert manifest.revision == published.revision
        marks = {
            path
            for path in found
            if path.endswith((b"/.cvmfscatalog", b"/.cvmfsautocatalog"))
            and not os.path.lexists(os.fsencode(tree) + path[len(prefix) :])
        }
        check_equal(tree, found, prefix, ignore=marks)
        check_links(tree, found, prefix)
        assert not publish_tree(repository, store, tree, options=Options(at=at)).is_new
