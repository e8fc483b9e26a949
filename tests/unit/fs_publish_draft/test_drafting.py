"""What a draft holds after changes, and which catalogs come of it."""

import gc
import tracemalloc
from dataclasses import replace

import pytest

from cernvm.core.errors import InvalidInputError, NotFoundError
from cernvm.fs.format.statistics import Counters, Statistics
from cernvm.fs.publish.draft import CatalogLimits

from .conftest import file_item, folder_item, link_item


def plant(draft):
    for path in (b"/a", b"/a/b", b"/n", b"/n/m", b"/z"):
        draft.put(folder_item(path))
    for path in (
        b"/a/f",
        b"/a/b/g",
        b"/n/.cvmfscatalog",
        b"/n/h",
        b"/n/m/.cvmfscatalog",
        b"/n/m/i",
    ):
        draft.put(file_item(path, path))
    draft.put(link_item(b"/z/link"))
    draft.put(file_item(b"/z/big", b"x", chunks=3))


def test_what_is_put_is_found_at_once_and_after_the_revision(press):
    with press.draft() as draft:
        plant(draft)
        assert draft.find(b"/n/m/i") == file_item(b"/n/m/i", b"/n/m/i")
        assert draft.find(b"/z/big") == file_item(b"/z/big", b"x", chunks=3)
        assert draft.find(b"/nothing") is None
        assert [item.path for item in draft.listing(b"/n")] == [
            b"/n/.cvmfscatalog",
            b"/n/h",
            b"/n/m",
        ]
        assert draft.listing(b"/n")[2].entry.link_count == 2

    press.publish(plant)

    items, catalogs = press.read()
    assert items[b"/z/big"] == file_item(b"/z/big", b"x", chunks=3)
    assert items[b""].entry.link_count == 5
    assert set(catalogs) == {b"", b"/n", b"/n/m"}


def test_putting_what_stands_changes_nothing(press):
    press.publish(plant)

    assert press.publish(plant) is None


def test_only_catalogs_on_the_way_to_a_change_are_written(press):
    press.publish(plant)
    _, before = press.read()

    finished = press.publish(lambda draft: draft.put(file_item(b"/a/new")))
    _, after = press.read()

    assert finished.catalogs == 1
    assert {path for path in after if after[path] != before[path]} == {b""}


def test_a_removed_directory_takes_its_nested_catalogs_along(press):
    press.publish(plant)

    press.publish(lambda draft: draft.remove(b"/n"))

    items, catalogs = press.read()
    assert set(catalogs) == {b""}
    assert not [path for path in items if path.startswith(b"/n")]


def test_a_catalog_without_its_marker_goes_back_into_the_one_above(press):
    press.publish(plant)

    press.publish(lambda draft: draft.remove(b"/n/.cvmfscatalog"))

    items, catalogs = press.read()
    assert set(catalogs) == {b"", b"/n/m"}
    assert items[b"/n/h"] == file_item(b"/n/h", b"/n/h")


def test_a_marker_that_comes_late_takes_what_is_nested_below_along(press):
    press.publish(plant)
    press.publish(lambda draft: draft.remove(b"/n/.cvmfscatalog"))

    press.publish(lambda draft: draft.put(file_item(b"/n/.cvmfscatalog")))

    assert set(press.read()[1]) == {b"", b"/n", b"/n/m"}


def test_a_file_in_place_of_a_directory_takes_all_below_away(press):
    press.publish(plant)

    press.publish(lambda draft: draft.put(file_item(b"/n", b"file")))

    items, _ = press.read()
    assert items[b"/n"] == file_item(b"/n", b"file")
    assert items[b""].entry.link_count == 4


def test_a_directory_keeps_its_children_when_its_attributes_change(press):
    press.publish(plant)

    press.publish(lambda draft: draft.put(folder_item(b"/n", mode=0o700, mtime_s=9)))

    items, _ = press.read()
    assert items[b"/n"].entry.mode & 0o777 == 0o700
    assert items[b"/n/m/i"] == file_item(b"/n/m/i", b"/n/m/i")


def test_linked_names_are_one_group_until_they_part(press):
    names = [b"/a/x", b"/a/y", b"/a/z"]
    press.publish(plant)
    press.publish(lambda draft: draft.put_linked([file_item(name, b"one") for name in names]))
    items, _ = press.read()
    assert {items[name].entry.link_count for name in names} == {3}
    assert len({items[name].entry.hardlink_group for name in names}) == 1

    assert press.publish(lambda d: d.put_linked([file_item(n, b"one") for n in names])) is None
    press.publish(lambda draft: draft.put(file_item(b"/a/x", b"other")))
    items, _ = press.read()
    assert [items[name].entry.link_count for name in names] == [1, 2, 2]

    press.publish(lambda draft: draft.remove(b"/a/y"))
    items, _ = press.read()
    assert (items[b"/a/z"].entry.link_count, items[b"/a/z"].entry.hardlink_group) == (1, 0)


def test_groups_stay_apart_when_catalogs_merge(press):
    press.publish(plant)
    press.publish(lambda d: d.put_linked([file_item(n, b"1") for n in (b"/n/p", b"/n/q")]))
    press.publish(lambda d: d.put_linked([file_item(n, b"2") for n in (b"/a/p", b"/a/q")]))

    press.publish(lambda draft: draft.remove(b"/n/.cvmfscatalog"))

    items, _ = press.read()
    groups = [items[n].entry.hardlink_group for n in (b"/n/p", b"/n/q", b"/a/p", b"/a/q")]
    assert groups[0] == groups[1] != groups[2] == groups[3]


def test_a_copy_has_all_that_its_source_has_nested_catalogs_too(press):
    press.publish(plant)

    press.publish(lambda draft: draft.copy(b"/n", b"/a/copy"))

    items, catalogs = press.read()
    assert {b"/a/copy", b"/a/copy/m"} <= set(catalogs)
    assert items[b"/a/copy/m/i"].entry == items[b"/n/m/i"].entry


def test_a_path_of_an_older_revision_comes_back_without_its_catalogs_being_written(press):
    press.publish(plant)
    old, (_, before) = press.root, press.read()
    press.publish(lambda draft: draft.remove(b"/n"))

    finished = press.publish(lambda draft: draft.copy(b"/n", b"/n", old))

    items, after = press.read()
    assert finished.catalogs == 1
    assert after[b"/n"] == before[b"/n"]
    assert items[b"/n/m/i"] == file_item(b"/n/m/i", b"/n/m/i")


def test_a_folder_cannot_be_copied_into_itself(press):
    press.publish(plant)

    with press.draft() as draft, pytest.raises(InvalidInputError):
        draft.copy(b"/n", b"/n/m/copy")


def test_nothing_can_be_put_where_there_is_no_directory(press):
    with press.draft() as draft:
        with pytest.raises(NotFoundError):
            draft.put(file_item(b"/missing/file"))
        draft.put(file_item(b"/file"))
        with pytest.raises(InvalidInputError):
            draft.put(file_item(b"/file/below"))
        with pytest.raises(InvalidInputError):
            draft.ensure_folders(b"/file/below", folder_item(b"").entry)


def test_what_was_put_into_a_directory_before_it_went_does_not_open_it_again(press):
    with press.draft() as draft:
        plant(draft)
        draft.put(file_item(b"/a/b/last"))
        draft.put(file_item(b"/a/last"))
        draft.remove(b"/a")
        with pytest.raises(NotFoundError):
            draft.put(file_item(b"/a/f"))
        with pytest.raises(NotFoundError):
            draft.listing(b"/a/b")


def test_counters_are_right_beside_catalogs_that_are_not_looked_into(press):
    """What stays unread is known by the difference, which every move of catalogs has to keep."""

    def plant_beside(draft):
        plant(draft)
        for path in (b"/z/.cvmfscatalog", b"/n/m/o/.cvmfscatalog", b"/n/p/.cvmfscatalog"):
            draft.ensure_folders(path.rpartition(b"/")[0], folder_item(b"").entry)
            draft.put(file_item(path))

    press.publish(plant_beside)
    for change in (
        lambda draft: draft.remove(b"/n/m/.cvmfscatalog"),
        lambda draft: draft.put(file_item(b"/n/m/.cvmfscatalog")),
        lambda draft: (draft.remove(b"/n/p"), draft.remove(b"/n/.cvmfscatalog")),
        lambda draft: draft.put(file_item(b"/n/.cvmfscatalog")),
        lambda draft: (draft.remove(b"/n/m/o"), draft.remove(b"/n/.cvmfscatalog")),
        lambda draft: draft.remove(b"/n"),
    ):
        press.publish(change)
        press.read()


def test_a_catalog_where_no_reader_could_look_is_not_begun(press):
    path = b"".join(b"/%d" % depth + b"x" * 250 for depth in range(17))

    with press.draft() as draft:
        draft.ensure_folders(path, folder_item(b"").entry)
        with pytest.raises(InvalidInputError, match="too deep"):
            draft.put(file_item(path + b"/.cvmfscatalog"))


def test_missing_folders_are_made_down_to_the_path(press):
    press.publish(lambda draft: draft.ensure_folders(b"/x/y/z", folder_item(b"").entry))

    assert {b"/x", b"/x/y", b"/x/y/z"} <= set(press.read()[0])


def test_a_heavy_catalog_is_split_and_a_light_one_merged_again(press):
    def fill(draft):
        for folder in (b"/a", b"/b", b"/c"):
            draft.put(folder_item(folder))
            for number in range(20):
                draft.put(file_item(folder + b"/%d" % number))

    limits = CatalogLimits(most_entries=30, fewest_entries=10)
    press.publish(fill, limits)
    items, catalogs = press.read()
    assert set(catalogs) == {b"", b"/a", b"/b"}
    assert b"/a/.cvmfsautocatalog" in items

    def thin(draft):
        for number in range(5, 20):
            draft.remove(b"/a/%d" % number)

    press.publish(thin, limits)
    items, catalogs = press.read()
    assert set(catalogs) == {b"", b"/b"}
    assert b"/a/.cvmfsautocatalog" not in items
    assert b"/a/.cvmfscatalog" not in items


def test_properties_that_nobody_asked_about_stay(press):
    def choose(draft):
        draft.set_property("volatile", "1")
        draft.set_property("TTL", "77")

    press.publish(choose)
    assert press.publish(choose) is None

    press.publish(plant)

    with press.draft() as draft:
        rows = draft.shelf.rows(draft.root)
        assert (rows.property("volatile"), rows.property("TTL")) == (b"1", b"77")


def test_another_revisions_nested_catalog_is_put_as_it_is(press):
    press.publish(plant)
    old = press.root
    press.publish(lambda draft: draft.put(file_item(b"/n/m/i", b"changed")))

    with press.draft(old) as draft:
        nested = draft.stored_nested(b"/n")
    press.publish(lambda draft: draft.put_nested(nested))

    items, catalogs = press.read()
    assert catalogs[b"/n"] == nested.digest
    assert items[b"/n/m/i"] == file_item(b"/n/m/i", b"/n/m/i")
    assert press.publish(lambda draft: draft.put_nested(nested)) is None


def test_what_is_brought_back_as_it_stands_is_no_change(press):
    press.publish(plant)

    assert press.publish(lambda draft: draft.copy(b"/a", b"/a", press.root)) is None
    assert press.publish(lambda draft: draft.copy(b"", b"", press.root)) is None


def test_new_directories_are_told_of_by_their_tops(press):
    with press.draft() as draft:
        plant(draft)
        assert draft.came == [b"/a", b"/n", b"/z"]
        draft.put(folder_item(b"/a", mode=0o700))
        assert draft.came == [b"/a", b"/n", b"/z"]


def test_counters_that_were_wrong_become_right_when_all_is_renewed(press):
    press.publish(plant)
    with press.draft() as draft:
        for path in (b"/n/m", b"/n", b""):
            catalog = draft.owner(path)
            draft.shelf.rows(catalog).set_statistics(Statistics(Counters(), Counters(dir=-9)))
            catalog.touch()
        draft.renew()
        press.root = draft.finish().root.digest

    press.read()


def test_hidden_entries_are_listed_on_demand_only_and_outlive_a_clearing(press):
    hidden = folder_item(b"/.cvmfs")
    hidden = replace(hidden, entry=replace(hidden.entry, flags=hidden.entry.flags | 0x8000))
    press.publish(lambda draft: (plant(draft), draft.put(hidden)))

    press.publish(lambda draft: draft.clear(b""))

    assert set(press.read()[0]) == {b"", b"/.cvmfs"}
    with press.draft() as draft:
        assert draft.listing(b"") == []
        assert [item.path for item in draft.listing(b"", with_hidden=True)] == [b"/.cvmfs"]


def test_a_draft_leaves_no_files_behind(press, tmp_path):
    press.publish(plant)
    with press.draft() as draft:
        draft.put(file_item(b"/n/m/more"))

    assert not list(tmp_path.rglob("*.db"))


def test_memory_is_flat_however_many_files_are_put(press):
    few, many = (_peak_bytes(press, count) for count in (1_000, 10_000))

    assert many < few + (1 << 20)  # a row that is held is some hundred bytes


def _peak_bytes(press, count):
    gc.collect()
    tracemalloc.start()
    try:
        with press.draft() as draft:
            for number in range(count):
                folder = b"/%d" % (number // 100)
                if number % 100 == 0:
                    draft.put(folder_item(folder))
                draft.put(file_item(b"%s/%d" % (folder, number), b"%d" % number))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
