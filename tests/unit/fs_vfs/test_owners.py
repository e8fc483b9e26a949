"""Whose files a repository's are shown to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import ConfigError
from cernvm.fs.vfs import OwnerSettings, parse_id_map
from cernvm.fs.vfs.owners import owner_of

IDS = st.integers(0, 2**32 - 2)


def shown(settings, uid, gid):
    change = owner_of(settings)
    return (uid, gid) if change is None else change(uid, gid)


@given(IDS, IDS)
def test_owners_are_as_published_unless_something_is_set(uid, gid):
    assert shown(OwnerSettings(), uid, gid) == (uid, gid)


@given(st.dictionaries(IDS, IDS, max_size=4), IDS, IDS, st.none() | IDS)
def test_a_map_changes_what_it_names_and_its_star_the_rest(mapped, uid, gid, others):
    rows = {str(key): value for key, value in mapped.items()}
    if others is not None:
        rows["*"] = others

    expected = mapped.get(uid, uid if others is None else others)

    assert shown(OwnerSettings(uid_map=rows), uid, gid) == (expected, gid)
    assert shown(OwnerSettings(gid_map=rows), gid, uid) == (gid, expected)


def test_a_claim_goes_before_every_map():
    settings = OwnerSettings(uid_map={"5": 6}, claim_uid=1000, claim_gid=100)

    assert shown(settings, 5, 7) == (1000, 100)


@given(st.dictionaries(st.just("*") | IDS.map(str), IDS))
def test_a_map_reads_what_is_written(mapped):
    text = "".join(f"{key} {value}\n" for key, value in mapped.items())

    assert parse_id_map(text, where="map") == mapped


@pytest.mark.parametrize("line", ["1", "1 2 3", "-1 2", "1 *", "a 1", "1 4294967295", "1 ²"])
def test_a_wrong_line_is_named(line):
    with pytest.raises(ConfigError, match=r"uid\.map: line 2"):
        parse_id_map(f"# map\n{line}\n", where="uid.map")
