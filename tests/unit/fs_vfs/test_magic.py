"""Pages, protection and visibility of magic attributes."""

from types import SimpleNamespace

import pytest

from cernvm.fs.vfs import Magic, MagicSettings
from cernvm.fs.vfs.magic import PAGE_BYTES

LONG = "x" * PAGE_BYTES + "y"


FACTS = {b"user.pubkeys": LONG, b"user.short": "s"}
ROOT = SimpleNamespace(properties=SimpleNamespace(membership=""))
OPEN = SimpleNamespace(revision=SimpleNamespace(tree=SimpleNamespace(root=ROOT)))


def value(name, settings=None):
    return Magic(OPEN, settings, FACTS).value(None, name)


def test_a_long_value_is_read_in_pages():
    assert value(b"user.pubkeys~?") == b"num_pages, 2"
    assert value(b"user.pubkeys~0") + value(b"user.pubkeys~1") == LONG.encode()
    assert value(b"user.pubkeys~2") is None
    assert value(b"user.short~0") == b"s"


def test_people_are_told_which_page_they_read():
    assert value(b"user.pubkeys@1") == b"# page 1 of 2, counted from 0\ny"
    assert value(b"user.pubkeys@7").startswith(b"There is no such page; there are 2")


@pytest.mark.parametrize("name", [b"s~", b"s~-1", b"s~x", b"none~0", b"~0", b"s~99999999999"])
def test_what_is_no_page_does_not_exist(name):
    assert value(b"user.short" + name.removeprefix(b"s") if name[:1] == b"s" else name) is None


@pytest.mark.parametrize(
    ("visibility", "on_root", "elsewhere"),
    [("rootonly", True, False), ("always", True, True), ("never", False, False)],
)
def test_the_visibility_decides_where_names_are_listed(visibility, on_root, elsewhere):
    magic = Magic(OPEN, MagicSettings(visibility))
    assert bool(magic.names(is_root=True)) is on_root
    assert bool(magic.names(is_root=False)) is elsewhere


def test_a_protected_attribute_is_for_root_and_privileged_groups_by_any_page():
    magic = Magic(OPEN, MagicSettings(protected=("logbuffer",), privileged_gids=(7,)))
    for name in (b"user.logbuffer", b"user.logbuffer~0", b"user.logbuffer@?"):
        assert magic.is_denied(name, uid=1000, gid=100)
        assert not magic.is_denied(name, uid=0, gid=100)
        assert not magic.is_denied(name, uid=1000, gid=7)
    assert not magic.is_denied(b"user.host", uid=1000, gid=100)
