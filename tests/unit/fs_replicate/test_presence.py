"""What a store is known to hold."""

from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm, Digest
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.replicate.presence import Presence
from cernvm.fs.store.memory import MemoryStore

OBJECTS = st.sets(
    st.tuples(
        st.builds(
            Digest,
            st.sampled_from(Algorithm),
            st.integers(0, 600).map(lambda n: n.to_bytes(2, "little") + bytes(18)),
        ),
        st.sampled_from(ObjectKind),
    ),
    max_size=30,
)


class FarStore(MemoryStore):
    """A store where one listing is cheaper than many questions."""

    lanes = 16
    asked = 0

    def has(self, path):
        self.asked += 1
        return super().has(path)


class NearStore(MemoryStore):
    lanes = 1


@given(held=OBJECTS, wanted=OBJECTS, added=OBJECTS)
def test_far_and_near_stores_are_known_alike(held, wanted, added):
    for store in (FarStore(), NearStore()):
        for digest, kind in held:
            store.put(object_path(digest, kind), b"")
        store.put("data/00/not-an-object", b"")
        presence = Presence(store)
        assert {one for one in wanted if presence.has(*one)} == wanted & held
        for one in added:
            presence.add(*one)
        assert {one for one in wanted if presence.has(*one)} == wanted & (held | added)


def test_a_far_store_is_asked_for_listings_only():
    store = FarStore()
    presence = Presence(store)
    for number in range(100):
        presence.has(Digest(Algorithm.SHA1, bytes([number]) * 20), ObjectKind.PLAIN)
    assert store.asked == 0
