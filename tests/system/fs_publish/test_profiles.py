"""Profiles follow the tree: what was recorded once is resolved anew with every publication."""

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cernvm.core.errors import NotFoundError
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.format.pack import PackReader
from cernvm.fs.format.pack_table import SMALL_BYTES
from cernvm.fs.format.profile import format_profile
from cernvm.fs.format.reads import FirstRead
from cernvm.fs.publish import profiles
from cernvm.fs.publish.profiles import Recording, read_profiles
from cernvm.fs.publish.publishing import Options, publish_profiles, publish_tree
from cernvm.fs.publish.revision import read_manifest

from .conftest import check_equal, read_back

READS = tuple(
    FirstRead(path, offset)
    for path, offset in [
        (b"/bin/start", 0),
        (b"/lib/deep/module", 0),
        (b"/bin/start", 0),
        (b"/lib/other", 0),
        (b"/data/chunked", 0),
        (b"/data/chunked", 17 << 20),
        (b"/data/large", 0),
        (b"/gone", 0),
    ]
)


@pytest.fixture
def release(tmp_path):
    """A program, a library in a catalog of its own and one below that, and some data."""
    noise = random.Random(6)
    root = tmp_path / "release"
    for path, size in {
        "bin/start": 1000,
        "bin/unused": 1000,
        "lib/other": 2000,
        "lib/deep/module": 3000,
        "data/large": SMALL_BYTES + 1,
        "data/chunked": 18 << 20,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(noise.randbytes(size))
    (root / "lib/.cvmfscatalog").touch()
    (root / "lib/deep/.cvmfscatalog").touch()
    return root


@pytest.fixture
def profiled(repository, store, release):
    publish_tree(repository, store, release)
    return publish_profiles(repository, store, lambda _: [Recording("start", READS, 2)])


def only_profile(repository, store):
    (profile,) = read_profiles(read_manifest(repository, store).root_catalog, store)
    return profile


def test_a_profile_lists_the_catalogs_and_objects_that_the_reads_need(
    repository, store, release, profiled
):
    profile = only_profile(repository, store)

    kinds = [(access.path, access.kind.value) for access in profile.accesses]
    assert kinds == [
        (b"/bin/start", ""),
        (b"/lib", "C"),
        (b"/lib/deep", "C"),
        (b"/lib/deep/module", ""),
        (b"/lib/other", ""),
        (b"/data/chunked", "P"),
        (b"/data/chunked", "P"),
        (b"/data/large", ""),
    ]
    first, later = (a for a in profile.accesses if a.path == b"/data/chunked")
    assert first.offset == 0 < later.offset <= 17 << 20 < later.offset + later.size_bytes
    assert [access.pack for access in profile.accesses] == [0, 0, 0, 0, 0, None, None, None]
    assert profile.first_paths == (b"/bin/start", b"/lib/deep/module")
    assert profiled.profiles[0].lost_paths == (b"/gone",)
    found, _ = read_back(repository, store)
    check_equal(release, found)


def test_a_profile_is_no_longer_than_readers_take(repository, store, release, monkeypatch):
    monkeypatch.setattr(profiles, "MAX_PROFILE_BYTES", 400)
    monkeypatch.setattr(profiles, "PACK_LINES_BYTES", 100)
    publish_tree(repository, store, release)
    publish_profiles(repository, store, lambda _: [Recording("start", READS, 2)])

    profile = only_profile(repository, store)

    assert [access.path for access in profile.accesses][:2] == [b"/bin/start", b"/lib"]
    assert len(format_profile(profile)) <= 400


def test_its_packs_hold_its_small_objects_in_the_order_of_access(repository, store, profiled):
    profile = only_profile(repository, store)
    (pack,) = profile.packs
    reader = PackReader(pack)
    found = reader.feed(store.get(object_path(pack.digest, ObjectKind.PACK)))
    reader.finish()

    assert [packed.digest for packed, _ in found] == [
        access.digest for access in profile.accesses if access.pack == 0
    ]


def test_a_profile_follows_a_file_that_changes_and_shrinks_with_one_that_goes(
    repository, store, release, profiled
):
    before = only_profile(repository, store)
    (release / "lib/other").write_bytes(b"another")
    (release / "lib/deep/module").unlink()
    published = publish_tree(repository, store, release)

    after = only_profile(repository, store)
    assert published.profiles[0].lost_paths == (b"/lib/deep/module",)
    paths = {access.path: access.digest for access in after.accesses}
    assert b"/lib/deep/module" not in paths
    assert paths[b"/lib/other"] != {a.path: a.digest for a in before.accesses}[b"/lib/other"]
    assert paths[b"/bin/start"] == before.accesses[0].digest
    assert after.trigger == before.trigger


def test_a_change_elsewhere_keeps_the_profiles(repository, store, release, profiled):
    os.chmod(release, 0o700)
    before = set(store.paths("data/"))
    published = publish_tree(repository, store, release)

    assert published.profiles[0].digest == profiled.profiles[0].digest
    assert {path[-1] for path in set(store.paths("data/")) - before} == {"C", "H"}


def test_a_publication_below_keeps_the_profiles_of_all(repository, store, release, profiled):
    publish_tree(repository, store, release / "lib", options=Options(at="/second"))

    assert only_profile(repository, store).first_paths == (b"/bin/start", b"/lib/deep/module")


def test_a_profile_of_which_nothing_is_left_is_dropped(repository, store, release, profiled):
    shutil.rmtree(release / "bin")
    shutil.rmtree(release / "lib")
    shutil.rmtree(release / "data")
    published = publish_tree(repository, store, release)

    assert published.profiles[0].profile is None
    assert read_profiles(read_manifest(repository, store).root_catalog, store) == []


def test_a_profile_whose_object_is_lost_is_left_out(repository, store, release, profiled):
    path = object_path(profiled.profiles[0].digest, ObjectKind.PROFILE)
    (Path(repository.storage) / path).unlink()

    assert publish_tree(repository, store, release).profiles == ()


def test_without_packs_a_profile_lists_its_objects_singly(repository, store, release):
    plain = replace(repository, has_packs=False)
    publish_tree(plain, store, release)
    publish_profiles(plain, store, lambda _: [Recording("start", READS)])

    profile = only_profile(repository, store)
    assert len(profile.accesses) == 8
    assert profile.packs == ()
    assert {access.pack for access in profile.accesses} == {None}


def test_a_change_that_fails_publishes_nothing(repository, store, release, profiled):
    def fail(_):
        raise NotFoundError("profile", "other")

    with pytest.raises(NotFoundError):
        publish_profiles(repository, store, fail)
    assert read_manifest(repository, store).revision == profiled.revision
