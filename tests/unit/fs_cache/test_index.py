"""The index against a model that is too simple to be wrong."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.fs.cache.index import Index, News, Row
from cernvm.fs.cache.port import Rank

LIMIT, TARGET = 100, 50

names = st.sampled_from([f"ab/{number:038x}" for number in range(12)])
added = st.dictionaries(
    names, st.builds(Row, st.integers(0, 30), st.sampled_from(Rank)), max_size=5
)
steps = st.lists(
    st.tuples(
        added,
        st.lists(names, unique=True, max_size=5),
        st.sets(names, max_size=2),
        st.sets(names, max_size=2),
        st.integers(0, 40),
    ),
    max_size=8,
)


class Model:
    """Objects in the order of use, those used last at the end."""

    def __init__(self):
        self.rows = {}

    def settle(self, news, *, immovable):
        rows = dict(self.rows)
        for name in (*(n for n in news.added if n not in news.used), *news.used):
            row = news.added.get(name) or rows.get(name)
            if row is not None:
                rows.pop(name, None)
                rank = row.rank.when_used if name in news.used else row.rank
                rows[name] = Row(row.size_bytes, rank)
        used = news.ghost_bytes + sum(row.size_bytes for row in rows.values())
        if used > LIMIT:
            for rank in Rank:
                for name in [n for n, row in rows.items() if row.rank is rank]:
                    if used <= TARGET:
                        break
                    if name not in immovable and name not in news.pinned:
                        used -= rows.pop(name).size_bytes
        self.rows = rows
        return used


@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_the_index_evicts_as_its_model(steps, tmp_path_factory):
    index, model = Index(tmp_path_factory.mktemp("index") / "index"), Model()
    try:
        for added, used, pinned, immovable, ghost_bytes in steps:
            known = model.rows.keys() | added.keys()
            news = News("me", added, used, tuple(pinned), tuple(set(known) - pinned), ghost_bytes)
            gone = []

            def remove(name, immovable=immovable, gone=gone):
                if name in immovable:
                    return False
                gone.append(name)
                return True

            settled = index.settle(news, limit_bytes=LIMIT, target_bytes=TARGET, remove=remove)

            assert settled.used_bytes == model.settle(news, immovable=immovable)
            rows = {name: (row.size_bytes, row.rank) for name, row in index.rows("", 100)}
            assert rows == {n: (row.size_bytes, row.rank) for n, row in model.rows.items()}
            assert settled.evicted == len(gone)
    finally:
        index.close()
