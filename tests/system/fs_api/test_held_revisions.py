"""A revision can be held by tag, number, date or root hash, and then it stays."""

import pytest

from cernvm.core.errors import DigestMismatchError, HostError, NotFoundError
from cernvm.fs.api import Pin, open_repository


@pytest.fixture
def open_pinned(vectors, tmp_path):
    def make(pin, cache="cache", **settings):
        keys = settings.pop("public_keys", [vectors.key])
        return open_repository(
            vectors.name, url=vectors.url, public_keys=keys, cache=tmp_path / cache, pin=pin, **settings
        )  # fmt: skip

    return make


def test_the_tags_are_those_that_the_publisher_gave(opened):
    named = {tag.name: tag.revision for tag in opened.tags()}

    assert {"first", "tag2", "tag3", "trunk"} <= set(named)
    assert named["trunk"] == named["tag3"] == opened.revision


def test_tag_number_date_and_root_hash_show_the_same_old_content(opened, open_pinned):
    tags = {tag.name: tag for tag in opened.tags()}
    first = tags["first"]
    pins = [
        Pin(tag="first"),
        Pin(revision=first.revision),
        Pin(at=first.tagged_at.isoformat()),
        Pin(root_catalog=str(first.root_catalog)),
    ]
    shown = set()
    for pin in pins:
        with open_pinned(pin) as held:
            assert held.reload() is False
            shown.add((held.revision, held.root_hash, (held / "changed").exists()))

    assert len(shown) == 1
    assert shown == {(first.revision, str(first.root_catalog), False)}
    assert (opened / "changed").exists()


def test_a_root_hash_needs_no_key_and_no_signed_manifest(vectors, opened, open_pinned):
    manifest = vectors.tree / "cvmfs" / vectors.name / ".cvmfspublished"
    if not manifest.exists():
        manifest = vectors.tree / ".cvmfspublished"
    hidden = manifest.rename(manifest.with_name("hidden"))
    try:
        with open_pinned(Pin(root_catalog=opened.root_hash), cache="other", public_keys=[]) as held:
            assert (held / "changed").read_bytes() == (opened / "changed").read_bytes()
            with pytest.raises(HostError):
                held.tags()
    finally:
        hidden.rename(manifest)


def test_a_tag_that_is_not_there_and_a_root_that_is_not_there_are_told(open_pinned):
    with pytest.raises(NotFoundError, match="tag 'never'"):
        open_pinned(Pin(tag="never"))
    with pytest.raises(HostError, match="404"):
        open_pinned(Pin(root_catalog="0" * 40))


def test_a_root_hash_of_other_bytes_is_refused(opened, open_pinned, vectors):
    wrong = "1" * 40
    root = next(vectors.tree.rglob(f"{opened.root_hash[2:]}C"))
    place = root.parent.parent / "11" / f"{'1' * 38}C"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(root.read_bytes())
    try:
        with pytest.raises(DigestMismatchError):
            open_pinned(Pin(root_catalog=wrong))
    finally:
        place.unlink()


def test_holding_an_old_revision_does_not_make_the_newest_look_new(opened, open_pinned):
    newest = opened.revision
    with open_pinned(Pin(tag="first")):
        pass
    with open_pinned(None) as again:
        assert again.revision == newest


def test_a_held_tag_that_was_shown_once_is_shown_without_a_network(mortal, tmp_path):
    served, _ = mortal
    where = {"url": served.url, "public_keys": [served.key], "cache": tmp_path / "cache"}
    with open_repository(served.name, pin=Pin(tag="first"), **where) as held:
        names = sorted(path.name for path in held.root.iterdir())
    served.stop()

    with open_repository(served.name, pin=Pin(tag="first"), **where) as held:
        assert (held.revision, sorted(path.name for path in held.root.iterdir())) == (1, names)
    with pytest.raises(HostError):
        open_repository(served.name, pin=Pin(tag="tag2"), **where)
