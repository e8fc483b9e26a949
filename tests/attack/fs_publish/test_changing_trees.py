"""The owner of a tree that somebody mightier publishes tries to slip in what only that one may read."""

import shutil
from contextlib import suppress

import pytest

from cernvm.core.errors import ChangedError
from cernvm.fs.publish.source import walk


@pytest.fixture
def tree(tmp_path):
    """A tree of two levels, and beside it a secret that has the same shape."""
    for place in ("tree/a/b/mine", "secret/b/key"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(place)
    return tmp_path / "tree"


@pytest.mark.parametrize("seen", ["/a", "/a/b"])
@pytest.mark.parametrize("swapped", ["a", "a/b"])
def test_a_folder_swapped_for_a_link_leads_nowhere(tree, seen, swapped):
    paths = walk(tree)
    while next(paths).path.decode() != seen:
        pass

    folder = tree / swapped
    folder.rename(tree.parent / "aside")
    folder.symlink_to(tree.parent / "secret" / swapped.partition("/")[2])

    found = []
    with suppress(ChangedError):  # where it is noticed before anything else is
        found.extend(one.path for one in paths)
    assert b"/a/b/key" not in found


def test_a_folder_swapped_for_another_is_noticed(tree):
    paths = walk(tree)
    while next(paths).path != b"/a":
        pass

    shutil.rmtree(tree / "a")
    (tree.parent / "secret").rename(tree / "a")

    with pytest.raises(ChangedError, match="changed"):
        list(paths)
