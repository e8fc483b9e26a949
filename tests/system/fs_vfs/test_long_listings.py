"""Directories of more names than are kept in memory."""

import random

import pytest

from attack.fs_reader.forge import CatalogMaker, Client, Forge, directory, entry
from cernvm.core.errors import CatalogFormatError
from cernvm.fs.format.entry import EntryFlag
from cernvm.fs.vfs import listing

COUNT = 2000


@pytest.fixture(params=["short", "long"])
def kind(request, monkeypatch):
    if request.param == "long":
        monkeypatch.setattr(listing, "MAX_SHORT", 100)
    return request.param


def names_of(count):
    return {b"f%05d" % number for number in range(count)}


def repository(count=COUNT, **more):
    entries = {b"/d": directory(b"d")}
    entries |= {b"/d/" + name: entry(name, size=7) for name in names_of(count)}
    entries[b"/d/.hidden"] = entry(b".hidden", flags=EntryFlag.FILE | EntryFlag.HIDDEN)
    return CatalogMaker(b"", entries, **more)


def read_all(view, folder, client):
    """As a kernel with little room reads it: some names, then on from the last of them."""
    names, offset = [], 0
    while page := view.listing(folder, offset, client.deadline()):
        taken = page[: random.randrange(1, 40)]
        names += taken
        offset = taken[-1].offset
    return names


def test_a_directory_is_listed_whole_whatever_is_taken_at_a_time(kind):
    client = Client(Forge().publish(repository()).documents)
    view = client.mount()
    folder = client.inode(view, b"/d")

    listed = read_all(view, folder, client)

    assert [one.name for one in listed[:2]] == [b".", b".."]
    assert len(listed) == COUNT + 2
    assert {one.name for one in listed[2:]} == names_of(COUNT)
    for one in random.sample(listed[2:], 20):
        found = view.lookup(folder, one.name, client.deadline())
        assert found == one.attributes


def test_both_kinds_give_the_same_names_in_the_same_order(monkeypatch):
    client = Client(Forge().publish(repository()).documents)
    orders = []
    for most in (100, 100_000):
        monkeypatch.setattr(listing, "MAX_SHORT", most)
        view = client.mount()
        orders.append(read_all(view, client.inode(view, b"/d"), client))

    assert orders[0] == orders[1]


def test_a_reader_misses_no_name_that_stays_over_a_change(kind):
    forge = Forge()
    client = Client(forge.publish(repository()).documents)
    view = client.mount()
    folder = client.inode(view, b"/d")
    page = view.listing(folder, 0, client.deadline())[:200]
    begun, offset = {one.name for one in page}, page[-1].offset
    forge.publish(repository(COUNT // 2), revision=2)
    assert view.reload(client.deadline())

    while rest := view.listing(folder, offset, client.deadline()):
        begun |= {one.name for one in rest}
        offset = rest[-1].offset

    assert names_of(COUNT // 2) <= begun


def test_a_name_that_does_not_belong_there_spoils_a_long_listing(kind):
    spoil = ["UPDATE catalog SET name = 'elsewhere' WHERE name = 'f00500'"]
    client = Client(Forge().publish(repository(spoil=spoil)).documents)
    view = client.mount()

    with pytest.raises(CatalogFormatError, match="does not belong"):
        read_all(view, client.inode(view, b"/d"), client)
