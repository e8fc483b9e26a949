"""What a replica copies."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm, Digest
from cernvm.core.errors import InvalidInputError
from cernvm.fs.format.history import Tag
from cernvm.fs.replicate.scope import Scope

NAMES = st.sampled_from(["a", "b", "ab"])
PATHS = st.lists(NAMES, max_size=4).map(lambda parts: "".join(f"/{part}" for part in parts))


@given(wanted=st.lists(PATHS.filter(bool), min_size=1, max_size=3), path=PATHS)
def test_a_path_is_touched_when_it_or_something_above_or_below_is_wanted(wanted, path):
    scope = Scope(paths=tuple(wanted))
    below = any(path == one or path.startswith(f"{one}/") for one in wanted)
    above = any(one == path or one.startswith(f"{path}/") for one in wanted)
    assert scope.holds(path.encode()) == below
    assert scope.touches(path.encode()) == (below or above)


@given(path=PATHS)
def test_without_paths_everything_is_copied(path):
    assert Scope().holds(path.encode())


@pytest.mark.parametrize("path", ["", "/", "a", "/a/", "/a//b", "/../etc", "/a/."])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(InvalidInputError):
        Scope(paths=(path,))


def test_tags_are_wanted_by_pattern_and_come_newest_first():
    digest = Digest(Algorithm.SHA1, bytes(20))
    tags = [
        Tag(name, digest, number, datetime.now(UTC), "", 0)
        for number, name in enumerate(["v1", "nightly", "v2"])
    ]
    assert [tag.name for tag in Scope(tags=("v*",)).wanted_tags(tags)] == ["v2", "v1"]
    assert Scope(tags=()).wanted_tags(tags) == []
    assert len(Scope().wanted_tags(tags)) == 3
