"""A repository read from Python shows what the original program shows, with `pathlib`'s manners."""

import errno
import hashlib
import json
import os
import stat

import pytest

from cernvm.core.errors import HostError


def expected(served):
    with served.listing.open(encoding="utf-8") as lines:
        return {row["path"]: row for row in map(json.loads, lines)}


def row_of(path):
    shown = path.lstat()
    row = {
        "path": str(path),
        "mode": oct(shown.st_mode),
        "size": shown.st_size,
        "uid": shown.st_uid,
        "gid": shown.st_gid,
        "nlink": shown.st_nlink,
        "mtime_ns": shown.st_mtime_ns,
    }
    if stat.S_ISREG(shown.st_mode):
        row["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if stat.S_ISLNK(shown.st_mode):
        row["target"] = str(path.readlink())
    elif str(path) != "/" and (xattrs := path.xattrs()):
        row["xattrs_hex"] = {name: value.hex() for name, value in xattrs.items()}
    if stat.S_ISCHR(shown.st_mode):
        row["rdev"] = shown.st_rdev
    return row


def test_a_walk_meets_every_path_with_all_that_is_known_of_it(opened, vectors):
    found = {"/": row_of(opened.root)}
    for folder, folders, names in opened.root.walk():
        for name in (*folders, *names):
            path = folder / name
            found[str(path)] = row_of(path)

    assert found == expected(vectors)


def test_nothing_stays_referenced_once_it_was_read(opened):
    for folder, _, names in opened.root.walk():
        for name in names:
            if (folder / name).is_file():
                (folder / name).read_bytes()

    assert len(opened.client.view._inodes) == 1  # the root


def test_reading_at_any_place_equals_the_whole(opened, seeded):
    path = opened / "data/text-20M"
    whole = path.read_bytes()
    with path.open("rb") as stream:
        assert stream.seek(0, os.SEEK_END) == len(whole)
        for _ in range(50):
            offset, length = seeded.randrange(len(whole)), seeded.randrange(3_000_000)
            stream.seek(offset)
            assert stream.read(length) == whole[offset : offset + length]


def test_text_lines_are_those_of_the_file(opened):
    with (opened / "data/text-20M").open(encoding="utf-8") as lines:
        first = next(lines)
    assert (opened / "data/text-20M").read_text("utf-8").startswith(first)


@pytest.mark.parametrize(
    ("path", "action", "number"),
    [
        ("absent", "read_bytes", errno.ENOENT),
        ("changed/below", "read_bytes", errno.ENOTDIR),
        ("data", "read_bytes", errno.EISDIR),
        ("misc/fifo", "read_bytes", errno.EINVAL),
        ("changed", "readlink", errno.EINVAL),
        ("..", "stat", errno.ENOENT),
        ("data/../..", "stat", errno.ENOENT),
    ],
)
def test_what_cannot_be_done_is_the_error_that_the_kernel_gives(opened, path, action, number):
    with pytest.raises(OSError) as raised:
        getattr(opened / path, action)()

    assert raised.value.errno == number


def test_a_directory_that_is_none_cannot_be_listed(opened):
    with pytest.raises(NotADirectoryError):
        list((opened / "changed").iterdir())


def test_writing_is_refused_before_anything_is_read(opened):
    for mode in ("w", "a", "r+", "xb", ""):
        with pytest.raises(ValueError, match="only read"):
            (opened / "absent").open(mode)


def test_patterns_find_what_pathlib_finds_in_the_same_tree(opened, tmp_path):
    for folder, _, names in opened.root.walk():
        place = tmp_path / "copy" / str(folder).lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (folder / name).is_symlink():
                (place / name).symlink_to(str((folder / name).readlink()))
            else:
                (place / name).touch()
    copy = tmp_path / "copy"
    for pattern in ("*", "**/*", "data/*M", "many/**/f*", "*/[a-c]*", "misc/*", "absent/*", "**"):
        mine = {str(path.relative_to("/")) for path in opened.root.glob(pattern)}
        assert mine == {str(path.relative_to(copy)) for path in copy.glob(pattern)}, pattern
    assert {p.name for p in opened.root.rglob("text-*")} == {"text-20M"}


def test_a_dead_server_costs_a_bounded_time_and_says_why(mortal):
    served, opened = mortal
    served.stop()

    with pytest.raises(OSError) as raised:
        (opened / "data/just-4M").read_bytes()

    assert raised.value.errno == errno.EIO
    assert isinstance(raised.value.__cause__, HostError)
    assert str(served.port) in str(raised.value)


def test_a_path_is_a_value(opened):
    path = opened / "data" / "text-20M"

    assert path == opened.root.joinpath("data", "text-20M")
    assert len({path, opened / "data/text-20M"}) == 1
    assert (path.name, path.stem, path.suffix, path.parts) == (
        "text-20M", "text-20M", "", ("/", "data", "text-20M"),
    )  # fmt: skip
    assert (str(path.parent), path.uri) == ("/data", "cvmfs://vectors.cernvm.test/data/text-20M")
    assert path.with_suffix(".gz").name == "text-20M.gz"
    assert repr(path) == "RepositoryPath('vectors.cernvm.test:/data/text-20M')"
