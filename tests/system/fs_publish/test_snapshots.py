"""The hidden folder in which a revision shows those of its tags."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cernvm.fs.api import open_repository
from cernvm.fs.publish.publishing import Options, publish_tree
from system.samples import serve_tree


@pytest.fixture
def shown(repository):
    return replace(repository, settings=replace(repository.settings, virtual_snapshots=True))


@pytest.fixture
def small(tmp_path):
    folder = tmp_path / "small"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text("one")
    return folder


def publish(repository, store, tree, tag, content):
    (tree / "sub/file").write_text(content)
    return publish_tree(repository, store, tree, options=Options(tag=tag))


@contextmanager
def seen(repository, cache):
    """The repository through our client."""
    served = serve_tree(repository.name, Path(repository.storage))
    try:
        with open_repository(
            repository.name, url=served.url, public_keys=[repository.keys.public], cache=cache
        ) as opened:
            yield opened
    finally:
        served.stop()


def test_older_tags_are_readable_below_the_newest_revision(shown, store, small, tmp_path):
    publish(shown, store, small, "v1", "one")
    publish(shown, store, small, "v2", "two, longer")
    publish(shown, store, small, "v3", "three, even longer")

    with seen(shown, tmp_path / "cache") as opened:
        assert (opened / "sub/file").read_text() == "three, even longer"
        assert {path.name for path in opened.root.iterdir()} == {"sub"}
        snapshots = opened / ".cvmfs/snapshots"
        assert {path.name for path in snapshots.iterdir()} == {"v1", "v2"}
        assert (snapshots / "v1/sub/file").read_text() == "one"
        assert (snapshots / "v2/sub/file").read_text() == "two, longer"


def test_a_tag_alone_is_no_reason_for_a_revision(shown, store, small):
    publish(shown, store, small, "v1", "one")
    publish(shown, store, small, "v2", "two, longer")

    assert not publish_tree(shown, store, small).is_new


def test_the_folder_goes_when_it_is_not_wanted_any_more(repository, shown, store, small, tmp_path):
    publish(shown, store, small, "v1", "one")
    hidden = replace(repository, settings=replace(repository.settings, virtual_snapshots=False))

    assert publish_tree(hidden, store, small).is_new

    with seen(hidden, tmp_path / "cache") as opened:
        assert not (opened / ".cvmfs").exists()
        assert (opened / "sub/file").read_text() == "one"
