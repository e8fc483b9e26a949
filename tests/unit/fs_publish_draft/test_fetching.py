"""Catalogs of a store that is far away."""

import threading
import time

import pytest

from cernvm.core.errors import NotFoundError
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.store.memory import MemoryStore

from .conftest import file_item, folder_item

NUMBER = 24


class FarStore(MemoryStore):
    """A store that takes its time for each answer, and counts how many are waited for at once."""

    lanes = 8

    def __init__(self, near):
        super().__init__()
        self.content = near.content
        self.modified_at = near.modified_at
        self.asked = []
        self.waiting = self.most = 0
        self.lock = threading.Lock()

    def get(self, path):
        with self.lock:
            self.asked.append(path)
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        time.sleep(0.01)
        with self.lock:
            self.waiting -= 1
        return super().get(path)


@pytest.fixture
def far(press):
    def plant(draft):
        for number in range(NUMBER):
            draft.put(folder_item(b"/%02d" % number))
            draft.put(file_item(b"/%02d/.cvmfscatalog" % number))

    press.publish(plant)
    press.store = FarStore(press.store)
    return press


def test_a_walk_in_order_waits_for_many_catalogs_at_once_and_for_each_once(far):
    with far.draft() as draft:
        for number in range(NUMBER):
            assert draft.find(b"/%02d/.cvmfscatalog" % number) is not None

    assert 2 < far.store.most <= far.store.lanes + 1
    assert sorted(far.store.asked) == sorted(set(far.store.asked))
    assert len(far.store.asked) == NUMBER + 1


def test_who_looks_at_one_path_asks_for_no_more(far):
    with far.draft() as draft:
        draft.find(b"/07/.cvmfscatalog")
        draft.find(b"/03/.cvmfscatalog")

    assert len(far.store.asked) == 3


def test_a_catalog_that_is_gone_is_an_error_for_who_comes_to_it(far):
    gone = far.read()[1][b"/05"]
    far.store.delete(object_path(gone, ObjectKind.CATALOG))

    with far.draft() as draft:
        for number in range(5):
            draft.find(b"/%02d/.cvmfscatalog" % number)
        with pytest.raises(NotFoundError):
            draft.find(b"/05/.cvmfscatalog")


def test_a_draft_that_ends_early_leaves_no_thread(far):
    before = threading.active_count()
    with far.draft() as draft:
        draft.find(b"/00/.cvmfscatalog")
        draft.find(b"/01/.cvmfscatalog")

    assert threading.active_count() == before
