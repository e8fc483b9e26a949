"""Replicas that were given a key for the second signature ask for it, and those that keep their keys need no others."""

from dataclasses import replace

import pytest

from cernvm.core.errors import InvalidInputError, NotFoundError, SignatureError
from cernvm.core.home import Home
from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.manifest import parse_manifest
from cernvm.fs.format.objects import MANIFEST_PATH, ObjectKind, object_path
from cernvm.fs.publish.rotating import begin_second_signature
from cernvm.fs.publish.signing import sign_manifest
from cernvm.fs.replicate.replica import forget_replica, read_replica, write_replica
from cernvm.fs.replicate.through.record import PassThrough
from cernvm.fs.replicate.through.store import open_through
from cernvm.fs.store.local import LocalStore
from system.replicas import NAME, bring, read_replica_back


@pytest.fixture
def twice(upstream, copy):
    """The replica of an upstream that signs twice."""
    second = begin_second_signature(upstream.repository, upstream.store)
    return replace(upstream.replica(copy), second_keys=(second,))


def sign_again(upstream, **changed):
    """The upstream's manifest, with other values and the second signature of its own."""
    keys = upstream.repository.keys
    manifest = parse_manifest(parse_letter(upstream.store.get(MANIFEST_PATH), where="m").text)
    signed = sign_manifest(
        replace(manifest, **changed),
        signing_key=keys.signing.read_bytes(),
        second_key=keys.second.read_bytes(),
    )
    upstream.store.replace(MANIFEST_PATH, signed)


def test_a_revision_that_is_signed_twice_is_copied(twice, upstream):
    done, store = bring(twice)
    assert done.is_new
    assert read_replica_back(store, upstream.key)[0].second_signature
    again, _ = bring(twice)
    assert (again.is_new, again.objects) == (False, 0)


def test_one_without_the_second_signature_is_refused(upstream, copy, tmp_path, twice):
    bring(twice)
    keys = upstream.repository.keys
    secret, public = keys.second.read_bytes(), keys.second_public
    keys.second.unlink()
    upstream.change(2)
    keys.second.write_bytes(secret)
    with pytest.raises(SignatureError, match="no second signature"):
        bring(twice)
    assert read_replica_back(LocalStore(copy), upstream.key)[0].revision == 1
    assert bring(replace(twice, second_keys=()))[0].revision == 2, "who does not ask takes it"
    assert public.is_file()


def test_a_root_catalog_that_was_not_signed_is_refused_and_removed(twice, upstream, copy):
    sign_again(upstream, root_catalog_sha256="00" * 32)
    with pytest.raises(SignatureError, match="root catalog"):
        bring(twice)
    store = LocalStore(copy)
    assert not store.has(MANIFEST_PATH)
    root = object_path(upstream.revisions[0].root_catalog, ObjectKind.CATALOG)
    assert not store.has(root)


def test_a_key_that_is_given_later_is_asked_for_what_is_here(twice, upstream, copy):
    sign_again(upstream, root_catalog_sha256="00" * 32)
    once = replace(twice, second_keys=())
    bring(once)
    with pytest.raises(SignatureError):
        bring(twice)
    with pytest.raises(SignatureError):
        bring(twice)


def test_what_passes_through_is_asked_for_both_signatures(twice, upstream, tmp_path):
    one = PassThrough(
        NAME, tmp_path / "kept", twice.urls, twice.public_keys, second_keys=twice.second_keys
    )
    root = object_path(upstream.revisions[0].root_catalog, ObjectKind.CATALOG)
    good = open_through(one)
    assert good.get(MANIFEST_PATH)
    assert good.get(root)
    sign_again(upstream, root_catalog_sha256="00" * 32)
    bad = open_through(replace(one, storage=tmp_path / "other"))
    assert bad.get(MANIFEST_PATH)
    with pytest.raises(SignatureError, match="root catalog"):
        bad.get(root)
    upstream.repository.keys.second.unlink()
    upstream.change(2)
    with pytest.raises(SignatureError, match="no second signature"):
        open_through(replace(one, storage=tmp_path / "third")).get(MANIFEST_PATH)


def test_keys_outlive_the_files_that_were_named(upstream, copy, tmp_path, twice):
    home = Home(tmp_path / "home")
    named = tmp_path / "on-a-stick.pub"
    named.write_bytes(upstream.key.read_bytes())
    write_replica(home, replace(twice, public_keys=(named,)))
    named.unlink()
    known = read_replica(home, NAME)
    assert all(key.is_relative_to(home.replicas) for key in known.public_keys + known.second_keys)
    assert bring(known)[0].revision == 1
    upstream.key.with_name("other.pub").write_bytes(b"another key")
    write_replica(home, replace(known, public_keys=(upstream.key.with_name("other.pub"),)))
    kept = {path.name for path in (home.replicas / f"{NAME}.keys").iterdir()}
    changed = read_replica(home, NAME)
    assert kept == {path.name for path in changed.public_keys + changed.second_keys}
    forget_replica(home, changed)
    assert list(home.replicas.iterdir()) == []


def test_a_secret_key_or_a_missing_one_makes_no_record(upstream, copy, tmp_path):
    home = Home(tmp_path / "home")
    secret = upstream.repository.keys.signing
    with pytest.raises(InvalidInputError, match="secret"):
        write_replica(home, replace(upstream.replica(copy), public_keys=(secret,)))
    with pytest.raises(NotFoundError):
        write_replica(home, replace(upstream.replica(copy), public_keys=(tmp_path / "none",)))
    assert not list(home.replicas.glob("*.toml"))
