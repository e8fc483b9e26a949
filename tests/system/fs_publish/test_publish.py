"""A tree is published, and every path of it is read back by digest."""

import dataclasses
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cernvm.core.clock import FakeClock
from cernvm.core.digest import Algorithm
from cernvm.core.errors import (
    ChangedError,
    ExistsError,
    HostError,
    InvalidInputError,
    NotFoundError,
    PrerequisiteError,
    SignatureError,
)
from cernvm.fs.format.compress import Compression
from cernvm.fs.format.signature import create_private_key
from cernvm.fs.publish.content import Progress, Recipe, open_writer
from cernvm.fs.publish.creating import create_repository, remove_repository
from cernvm.fs.publish.entries import Owner
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.repository import known_repositories, new_repository, read_repository
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.settings import Settings
from cernvm.fs.publish.source import walk
from cernvm.fs.publish.whitelisting import renew
from cernvm.fs.store.local import LocalStore
from cernvm.fs.survey.reading import read_tags

from .conftest import CHUNKS, check_equal, read_back


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("compression", Compression)
def test_a_published_tree_is_read_back_equal(home, tree, algorithm, compression):
    repository = new_repository(
        home, "t.cernvm.test", algorithm=algorithm, compression=compression, settings=CHUNKS
    )
    create_repository(home, repository)
    store = LocalStore(Path(repository.storage))

    published = publish_tree(repository, store, tree)

    found, manifest = read_back(repository, store)
    check_equal(tree, found)
    assert published.revision == manifest.revision == 1
    assert published.root_catalog == manifest.root_catalog
    assert published.catalogs == 3
    assert manifest.root_catalog.algorithm is algorithm


def test_a_new_repository_is_empty_and_signed(repository, store):
    found, manifest = read_back(repository, store)

    assert list(found) == [b""]
    assert manifest.revision == 0


def test_private_keys_are_private(home):
    repository = new_repository(home, "new.cernvm.test")
    create_repository(home, repository)
    keys = repository.keys

    assert [oct(path.stat().st_mode & 0o777) for path in (keys.master, keys.signing)] == [
        "0o600"
    ] * 2
    assert repository.index.parent.is_dir()


def test_large_files_are_cut_and_middling_ones_are_not(repository, store, tree):
    (tree / "large").write_bytes(os.urandom(1 << 20) * 17)
    (tree / "middle").write_bytes(bytes(5 << 20))
    repository = dataclasses.replace(repository, settings=Settings())
    publish_tree(repository, store, tree)

    found, _ = read_back(repository, store)
    assert found[b"/large"][0].is_chunked
    assert not found[b"/middle"][0].is_chunked  # larger than the smallest chunk, but one piece


def test_hard_links_of_one_folder_stay_one_file(repository, store, tree):
    publish_tree(repository, store, tree)

    found, _ = read_back(repository, store)
    one, two = (found[b"/folder with space/" + name][0] for name in (b"one", b"two"))
    assert one.hardlink_group == two.hardlink_group != 0
    assert one.link_count == two.link_count == 2
    assert found[b"/sub/elsewhere"][0].hardlink_group == 0


def test_publishing_again_reads_no_file(repository, store, tree):
    os.utime(tree / "sub" / "f1", ns=(0, 10**18))
    time.sleep(2.1)  # until the files are old enough to be remembered
    publish_tree(repository, store, tree)
    before = set(store.paths())

    os.chmod(tree / "large", 0o600)  # changes the ctime: read again, found in the store
    again = publish_tree(repository, store, tree)

    assert again.revision == 2
    assert again.stored_objects == 1  # the root catalog
    assert again.catalogs == 1
    new = set(store.paths()) - before
    assert {path[-1] for path in new} == {"C", "H"}
    check_equal(tree, read_back(repository, store)[0])


def test_a_changed_folder_is_published(repository, store, tree):
    publish_tree(repository, store, tree)
    (tree / "sub" / "deeper").chmod(0o711)
    os.setxattr(tree / "sub", "user.note", b"new")

    publish_tree(repository, store, tree)

    found, _ = read_back(repository, store)
    check_equal(tree, found)


def test_a_changed_file_is_found_though_size_and_mtime_are_the_same(repository, store, tree):
    place = tree / "hello.txt"
    status = place.stat()
    time.sleep(2.1)
    publish_tree(repository, store, tree)

    place.write_bytes(b"HELLO\n" * 1000)
    os.utime(place, ns=(0, status.st_mtime_ns))
    publish_tree(repository, store, tree)

    assert read_back(repository, store)[0][b"/hello.txt"][1].startswith(b"HELLO")


def test_objects_that_were_lost_are_stored_again(repository, store, tree):
    time.sleep(2.1)
    publish_tree(repository, store, tree)
    for path in list(store.paths("data/")):
        if path[-1].islower() or path[-1].isdigit():
            (store.folder / path).unlink()

    publish_tree(repository, store, tree, options=Options(is_thorough=True))

    check_equal(tree, read_back(repository, store)[0])


def test_a_damaged_index_is_made_anew(repository, store, tree):
    publish_tree(repository, store, tree)
    repository.index.write_bytes(b"no database" * 1000)

    publish_tree(repository, store, tree)

    check_equal(tree, read_back(repository, store)[0])


def test_a_tree_replaces_what_is_at_a_path_and_nothing_else(repository, store, tree, tmp_path):
    publish_tree(repository, store, tree)
    other = tmp_path / "other"
    (other / "a").mkdir(parents=True)
    (other / "a" / "b").write_bytes(b"new")
    (other / "a" / "c").hardlink_to(other / "a" / "b")

    for at in ("/sub/deeper", "/x/y/z", "folder with space/new/"):
        publish_tree(repository, store, other, options=Options(at=at))
        found, _ = read_back(repository, store)
        check_equal(other, found, b"/" + at.strip("/").encode())

    found, manifest = read_back(repository, store)
    assert manifest.revision == 4
    assert found[b"/sub/f3"][1] == b"3"
    assert found[b"/x/y"][0].link_count == 3
    assert found[b""][0].link_count == 2 + 3
    groups = [found[path][0].hardlink_group for path in (b"/folder with space/one", b"/x/y/z/a/b")]
    assert found[b"/folder with space/new/a/b"][0].hardlink_group not in {0, *groups}
    assert b"/sub/deeper/last" not in found

    publish_tree(repository, store, other, options=Options(at="/sub"))
    found, _ = read_back(repository, store)
    check_equal(other, found, b"/sub")
    assert found[b"/hello.txt"][1].startswith(b"hello")


def test_a_path_through_a_file_is_refused(repository, store, tree):
    publish_tree(repository, store, tree)
    with pytest.raises(InvalidInputError, match="no directory"):
        publish_tree(repository, store, tree / "sub", options=Options(at="/hello.txt/x"))
    assert read_manifest(repository, store).revision == 1


@pytest.mark.parametrize("at", ["/../x", "/a//b", "/./a", "/" + "x" * 256])
def test_paths_that_are_none_are_refused(repository, store, tree, at):
    with pytest.raises(InvalidInputError):
        publish_tree(repository, store, tree, options=Options(at=at))


def test_big_trees_get_catalogs_by_themselves(repository, store, tmp_path):
    root = tmp_path / "big"
    for letter in "abc":
        for number in range(40):
            folder = root / letter / str(number % 4)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / str(number)).write_bytes(b"")
    settings = Settings(most_entries=60, fewest_entries=20)
    repository = dataclasses.replace(repository, settings=settings)

    published = publish_tree(repository, store, root)

    found, _ = read_back(repository, store)
    marks = {path for path in found if b".cvmfs" in path}
    assert published.catalogs == 1 + len(marks) // 2
    assert marks == {
        folder + name
        for folder in (b"/a/", b"/b/")
        for name in (b".cvmfscatalog", b".cvmfsautocatalog")
    }
    check_equal(root, found, ignore=marks)

    at = Options(at="/deep/down")
    publish_tree(repository, store, root, options=at)
    found, _ = read_back(repository, store)
    check_equal(root, found, b"/deep/down", ignore={p for p in found if b".cvmfs" in p})


def test_owner_can_be_set_for_all(repository, store, tree):
    publish_tree(repository, store, tree, options=Options(owner=Owner(0, 7)))

    found, _ = read_back(repository, store)
    assert {(entry.uid, entry.gid) for entry, _ in found.values()} == {(0, 7)}


def test_tags_follow_the_revisions(repository, store, tree):
    clock = FakeClock(datetime.now(UTC))
    publish_tree(repository, store, tree, options=Options(tag="v1"), clock=clock)
    clock.advance(3600)
    (tree / "new").write_bytes(b"new")
    publish_tree(repository, store, tree, clock=clock)

    tags = {tag.name: tag.revision for tag in read_tags(read_manifest(repository, store), store)}
    assert tags == {
        "v1": 1,
        "trunk-previous": 1,
        "trunk": 2,
        f"generic-{clock.now():%Y-%m-%dT%H:%M:%SZ}": 2,
    }
    with pytest.raises(ExistsError):
        publish_tree(repository, store, tree, options=Options(tag="v1"))
    for name in ("trunk", "a b", ""[:0] or "../x"):
        with pytest.raises(InvalidInputError):
            publish_tree(repository, store, tree, options=Options(tag=name))


def test_the_reflog_lists_every_root_object(repository, store, tree):
    import sqlite3

    for number in range(2):
        (tree / "new").write_bytes(b"%d" % number)
        publish_tree(repository, store, tree)
    database = sqlite3.connect(":memory:")
    database.deserialize(store.get(".cvmfsreflog"))
    kinds = [kind for (kind,) in database.execute("SELECT type FROM refs")]
    database.close()

    assert {kind: kinds.count(kind) for kind in kinds} == {0: 3, 1: 1, 2: 2}


def test_publishing_renews_a_whitelist_that_runs_out(home, tree):
    clock = FakeClock(datetime.now(UTC) - timedelta(days=40))
    repository = new_repository(home, "old.cernvm.test")
    create_repository(home, repository, clock=clock)
    store = LocalStore(Path(repository.storage))

    publish_tree(repository, store, tree)

    read_back(repository, store)


def test_without_the_master_key_an_expired_whitelist_ends_it(home, tree):
    clock = FakeClock(datetime.now(UTC) - timedelta(days=40))
    repository = new_repository(home, "old.cernvm.test")
    create_repository(home, repository, clock=clock)
    store = LocalStore(Path(repository.storage))
    repository.keys.master.unlink()

    with pytest.raises(PrerequisiteError, match="masterkey"):
        publish_tree(repository, store, tree)
    assert read_manifest(repository, store).revision == 0


def test_without_the_master_key_a_valid_whitelist_is_kept(repository, store, tree):
    before = store.get(".cvmfswhitelist")
    repository.keys.master.unlink()

    publish_tree(repository, store, tree)

    assert store.get(".cvmfswhitelist") == before
    read_back(repository, store)


def test_resigning_makes_a_new_whitelist(repository, store):
    later = FakeClock(datetime.now(UTC) + timedelta(days=3))

    assert renew(repository, store, clock=later).expires_at > datetime.now(UTC) + timedelta(days=32)
    read_back(repository, store)


def test_a_key_that_is_not_the_certificates_publishes_nothing(repository, store, tree):
    repository.keys.signing.write_bytes(create_private_key())

    with pytest.raises(SignatureError, match="not signed by its certificate"):
        publish_tree(repository, store, tree)
    assert read_back(repository, store)[1].revision == 0


def test_progress_counts_what_was_done(repository, store, tree):
    seen = []
    progress = Progress(on_change=lambda p: seen.append((p.files, p.read_bytes)))

    published = publish_tree(repository, store, tree, progress=progress)

    assert seen[-1] == (published.files, published.read_bytes)
    assert published.files == sum(
        path.is_file() and not path.is_symlink() for path in tree.rglob("*")
    )
    assert published.stored_bytes < published.read_bytes


def test_many_small_chunks_keep_their_order(repository, store, tmp_path):
    root = tmp_path / "chunks"
    root.mkdir()
    (root / "f").write_bytes(os.urandom(300_000))
    sizes = Settings(chunk_least_bytes=1000, chunk_mean_bytes=2000, chunk_most_bytes=4000)
    repository = dataclasses.replace(repository, settings=sizes)

    publish_tree(repository, store, root, options=Options(workers=4))

    check_equal(root, read_back(repository, store)[0])


@pytest.mark.parametrize(
    ("name", "error"), [("none", NotFoundError), ("hello.txt", InvalidInputError)]
)
def test_a_tree_must_be_a_folder(repository, store, tree, name, error):
    with pytest.raises(error):
        publish_tree(repository, store, tree / name)


def test_a_tree_that_holds_the_storage_is_refused(repository, store, home):
    with pytest.raises(InvalidInputError, match="own storage"):
        publish_tree(repository, store, home.path)


@pytest.mark.parametrize("name", ["hello.txt", "large"])
def test_a_file_that_changes_between_walk_and_reading_ends_it(repository, store, tree, name):
    found = next(one for one in walk(tree) if one.path == b"/" + name.encode())
    with (tree / name).open("ab") as file:
        file.write(b"more")

    recipe = Recipe(repository.algorithm, repository.compression)
    with (
        pytest.raises(ChangedError, match="changed while"),
        open_writer(store, recipe) as writer,
    ):
        _add_all(writer, found)


def _add_all(writer, *found):
    for one in found:
        writer.add(one, lambda status, content: None)
    writer.finish()


def test_repositories_are_known_until_they_are_removed(home, repository):
    assert [known.name for known in known_repositories(home)] == ["t.cernvm.test"]
    with pytest.raises(ExistsError):
        create_repository(home, repository)

    remove_repository(home, read_repository(home, "t.cernvm.test"))

    assert known_repositories(home) == []
    assert not Path(repository.storage).exists()
    assert not any(path.exists() for path in (*repository.keys.files, repository.index))
    with pytest.raises(NotFoundError):
        read_repository(home, "t.cernvm.test")


def test_creating_can_be_repeated_after_a_crash(home, repository, store):
    (home.repositories / "t.cernvm.test.toml").unlink()  # died before the record

    assert create_repository(home, repository).revision == 0
    read_back(repository, store)


@pytest.mark.parametrize("kept_elsewhere", ["masterkey", "key"])
def test_no_key_of_a_repository_is_ever_made_anew(home, made_keys, kept_elsewhere):
    shutil.copytree(made_keys.folder, home.keys)
    (home.keys / f"t.cernvm.test.{kept_elsewhere}").unlink()
    before = {path.name: path.read_bytes() for path in home.keys.iterdir()}

    with pytest.raises(ExistsError, match=r"t\.cernvm\.test\.pub"):
        create_repository(home, new_repository(home, "t.cernvm.test"))

    assert {path.name: path.read_bytes() for path in home.keys.iterdir()} == before


def test_a_used_folder_is_not_taken(home, repository, tree):
    other = new_repository(home, "other.cernvm.test", storage=repository.storage)
    with pytest.raises(ExistsError, match="repository in"):
        create_repository(home, other)


def test_a_folder_that_cannot_be_made_is_named(home, tree):
    made = new_repository(home, "b.cernvm.test", storage=tree / "hello.txt" / "storage")
    with pytest.raises(HostError, match="Not a directory"):
        create_repository(home, made)


def test_an_index_that_cannot_be_kept_changes_nothing(home, repository, store, tree):
    repository.index.mkdir()  # neither a database nor removable

    publish_tree(repository, store, tree)

    check_equal(tree, read_back(repository, store)[0])
    repository.index.rmdir()
