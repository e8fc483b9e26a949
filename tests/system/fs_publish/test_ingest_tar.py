"""What a tar holds is published as if GNU tar had unpacked it and its folder were published."""

import os
import random
import stat
import subprocess

import pytest

from cernvm.fs.publish.ingest import Ingestion, ingest
from cernvm.fs.publish.publishing import Options, publish_tree

from .conftest import check_equal, read_back


@pytest.fixture
def plain(tmp_path):
    """A tree that every version of tar can hold."""
    root = tmp_path / "plain"
    folder = root / "folder with space"
    folder.mkdir(parents=True)
    (root / "empty").write_bytes(b"")
    (root / "large").write_bytes(random.Random(5).randbytes(1 << 20) + bytes(17 << 20))
    for number in range(200):
        (folder / f"f{number}").write_bytes(b"%d" % number * number)
    (folder / "link").symlink_to("../empty")
    (folder / "dangling").symlink_to("/etc/$(ARCH)")
    (root / "one").write_bytes(b"linked")
    os.link(root / "one", root / "two")
    os.link(root / "one", folder / "elsewhere")
    os.chmod(root / "empty", 0o4755)
    os.chmod(folder, 0o2750)
    os.utime(root / "empty", (0, 1_600_000_000))
    return root


@pytest.fixture
def rich(plain):
    """One for those that came later: devices, long names, raw bytes, times and attributes."""
    deep = plain / ("d" * 200) / ("e" * 200)
    deep.mkdir(parents=True)
    (deep / ("f" * 255)).write_bytes(b"deep")
    (deep / "long link").symlink_to("x" * 300)
    os.link(deep / ("f" * 255), deep / "other name")
    with open(os.fsencode(plain) + b"/latin-\xe9\n", "wb") as file:
        file.write(b"latin")
    os.mkfifo(plain / "fifo")
    if os.geteuid() == 0:
        os.mknod(plain / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chown(plain / "empty", 3_000_000, 3_000_001)
    return plain


def pack(tree, archive, *options):
    subprocess.run(
        ["tar", "-C", tree, "--sort=name", *options, "-cf", archive, "."], check=True, timeout=60
    )
    return archive


def unpack(archive, folder, *options):
    folder.mkdir()
    command = ["tar", "-C", folder, "--same-owner", "--numeric-owner", "-p", *options, "-xf"]
    subprocess.run([*command, archive], check=True, timeout=60)
    return folder


def objects_of(store):
    return {path for path in store.paths("data/") if path[-1] not in "CHXMKF"}


def check_as_unpacked(repository, store, archive, tmp_path, *options):
    """Ingest at one path, publish what GNU tar unpacks at another: both must be the same."""
    ingest(repository, store, archive, options=Options(at="/ingested"))
    before = objects_of(store)
    folder = unpack(archive, tmp_path / "unpacked", *options)
    publish_tree(repository, store, folder, options=Options(at="/published"))

    found, _ = read_back(repository, store)
    check_equal(folder, found, b"/ingested")
    for path, (entry, content) in found.items():
        if path.startswith(b"/published/"):
            other, same_content = found[b"/ingested/" + path.removeprefix(b"/published/")]
            assert content == same_content
            assert entry.digest == other.digest
            assert (entry.hardlink_group == 0) == (other.hardlink_group == 0)
            assert (entry.flags, entry.link_count) == (other.flags, other.link_count)
            assert entry.xattrs == other.xattrs
    assert objects_of(store) == before


@pytest.mark.parametrize("version", ["v7", "ustar"])
def test_old_versions_of_tar_are_read(repository, store, plain, tmp_path, version):
    archive = pack(plain, tmp_path / "a.tar", f"--format={version}")

    check_as_unpacked(repository, store, archive, tmp_path)


@pytest.mark.parametrize("version", ["gnu", "posix"])
def test_what_later_versions_hold_is_published(repository, store, rich, tmp_path, version):
    os.setxattr(rich / "empty", "user.note", b"\x00binary\xff")
    options = ["--xattrs"] if version == "posix" else []
    archive = pack(rich, tmp_path / "a.tar", f"--format={version}", *options)

    check_as_unpacked(repository, store, archive, tmp_path, *options)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
def test_compressed_tars_are_told_by_their_first_bytes(repository, store, plain, tmp_path, suffix):
    compress = {"gz": "-z", "bz2": "-j", "xz": "-J"}.get(suffix)
    if compress is None:
        import zstandard

        data = pack(plain, tmp_path / "a.tar").read_bytes()
        (tmp_path / "a").write_bytes(zstandard.compress(data))
    else:
        pack(plain, tmp_path / "a", compress)

    ingest(repository, store, tmp_path / "a")

    check_equal(unpack(tmp_path / "a", tmp_path / "u"), read_back(repository, store)[0])


def test_a_tar_is_read_from_a_pipe(repository, store, plain, tmp_path):
    with subprocess.Popen(
        ["tar", "-C", plain, "--format=posix", "-cz", "."], stdout=subprocess.PIPE
    ) as tar:
        ingest(repository, store, tar.stdout, options=Options(at="/piped"))

    check_equal(plain, read_back(repository, store)[0], b"/piped")


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        *(["--format=posix", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")),
    ],
)
def test_sparse_files_are_published_with_their_holes_filled(repository, store, tmp_path, options):
    tree = tmp_path / "tree"
    tree.mkdir()
    source = random.Random(2)
    with open(tree / "sparse", "wb") as file:
        for number in range(60):
            file.seek(number * 100_000)
            file.write(source.randbytes(5000))
        file.truncate(30 << 20)
    with open(tree / "hole", "wb") as file:
        file.truncate(1 << 20)
    archive = pack(tree, tmp_path / "a.tar", "--sparse", *options)
    assert archive.stat().st_size < 2 << 20

    check_as_unpacked(repository, store, archive, tmp_path)


def test_folders_on_the_way_to_the_path_are_made(repository, store, plain, tmp_path):
    archive = pack(plain, tmp_path / "a.tar", "--format=posix")

    ingest(repository, store, archive, options=Options(at="/a/b/c"))

    check_equal(plain, read_back(repository, store)[0], b"/a/b/c")


def test_members_are_added_to_what_is_there(repository, store, plain, tmp_path):
    publish_tree(repository, store, plain)
    other = tmp_path / "other"
    (other / "folder with space").mkdir(parents=True)
    (other / "folder with space" / "f1").write_bytes(b"new")
    (other / "folder with space" / "g").write_bytes(b"added")

    ingest(repository, store, pack(other, tmp_path / "a.tar"))

    found, _ = read_back(repository, store)
    assert found[b"/folder with space/f1"][1] == b"new"
    assert found[b"/folder with space/g"][1] == b"added"
    assert found[b"/folder with space/f2"][1] == b"22"
    assert found[b"/large"][0].is_chunked


def test_what_is_not_in_the_archive_goes_on_demand(repository, store, plain, rich, tmp_path):
    publish_tree(repository, store, rich, options=Options(at="/v1"))
    publish_tree(repository, store, plain, options=Options(at="/v2"))
    other = tmp_path / "other"
    (other / "one").mkdir(parents=True)  # a file stands there
    (other / "folder with space").write_bytes(b"a folder stands there")
    (other / "empty").write_bytes(b"")

    ingest(
        repository,
        store,
        pack(other, tmp_path / "a.tar", "--format=posix"),
        Ingestion(deletes=True),
        options=Options(at="/v1"),
    )

    found, _ = read_back(repository, store)
    check_equal(other, found, b"/v1")
    check_equal(plain, found, b"/v2")


def test_the_same_archive_again_makes_no_revision(repository, store, rich, tmp_path):
    archive = pack(rich, tmp_path / "a.tar")
    how = Ingestion(deletes=True, is_nested=True)
    first = ingest(repository, store, archive, how, options=Options(at="/x"))
    again = ingest(repository, store, archive, how, options=Options(at="/x"))

    assert first.is_new
    assert not again.is_new


def test_leading_parts_are_stripped_and_a_catalog_is_made(repository, store, plain, tmp_path):
    archive = tmp_path / "a.tar"
    subprocess.run(["tar", "-C", plain.parent, "-cf", archive, "plain"], check=True, timeout=60)

    published = ingest(
        repository,
        store,
        archive,
        Ingestion(strip=1, is_nested=True),
        options=Options(at="/a/b", tag="v1"),
    )

    found, _ = read_back(repository, store)
    assert found.pop(b"/a/b/.cvmfscatalog")[1] == b""
    unpacked = unpack(archive, tmp_path / "u", "--strip-components=1")
    os.utime(unpacked, ns=(0, found[b"/a/b"][0].mtime_total_ns))  # no member says it
    check_equal(unpacked, found, b"/a/b")
    assert published.catalogs == 2
    assert published.tags == ("v1",)


def test_cvm_ingests_a_file_and_standard_input(cvm, plain, tmp_path):
    import json

    cvm("repo", "create", "t.cernvm.test")
    archive = pack(plain, tmp_path / "a.tar")

    dry = cvm("repo", "ingest", "t.cernvm.test", archive, "--at", "/x", "--dry-run")
    row = json.loads(cvm("repo", "ingest", "t.cernvm.test", archive, "--at", "/x", "--json").stdout)
    again = cvm("repo", "ingest", "t.cernvm.test", archive, "--at", "/x")

    assert "/x/large" in dry.stdout
    assert row["files"] == 203
    assert row["revision"] == 1
    assert "nothing to publish" in again.stdout
