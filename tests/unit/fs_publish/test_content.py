"""Files, streams and bytes become the same objects, whoever stores them."""

import io
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.core.errors import ChangedError, NotFoundError, SpaceError
from cernvm.fs.format.chunker import ChunkSizes, CutFinder
from cernvm.fs.format.compress import Compression, Inflater
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.content import Progress, Recipe, open_writer
from cernvm.fs.publish.source import walk
from cernvm.fs.store.memory import MemoryStore

SIZES = ChunkSizes(1000, 3000, 9000)

contents = st.tuples(st.binary(min_size=1, max_size=600), st.integers(0, 100)).map(
    lambda t: t[0] * t[1]
)
recipes = st.builds(
    Recipe,
    algorithm=st.sampled_from(Algorithm),
    compression=st.sampled_from(Compression),
    sizes=st.just(SIZES),
    has_whole=st.booleans(),
)


def content_in(store, content, recipe):
    """What a reader gets by the chunks, and by the whole object where there is one."""
    parts = [(chunk.digest, ObjectKind.PARTIAL) for chunk in content.chunks]
    wholes = [] if content.digest is None else [(content.digest, ObjectKind.PLAIN)]
    return [
        b"".join(_read(store, digest, kind, recipe) for digest, kind in objects)
        for objects in (parts, wholes)
        if objects
    ]


def _read(store, digest, kind, recipe):
    stored = store.get(object_path(digest, kind))
    assert recipe.algorithm.digest(stored) == digest
    inflater = Inflater(recipe.compression, limit_bytes=1 << 20)
    data = b"".join(inflater.feed(stored))
    inflater.finish()
    return data


def stored_each_way(data, recipe, folder, blocks):
    """What one content becomes as a file, a stretch of a file, bytes and a stream."""
    store, found = MemoryStore(), []
    (folder / "file").write_bytes(data)
    (folder / "archive").write_bytes(b"before" + data + b"after")
    archive, file = [one for one in walk(folder) if one.is_file]
    with open_writer(store, recipe) as writer:
        writer.add(file, lambda _status, content: found.append(content))
        writer.add_extent(archive, 6, len(data), lambda _status, content: found.append(content))
        writer.add_bytes(data, lambda _status, content: found.append(content))
        stream = io.BytesIO(data)
        writer.add_stream(
            lambda most: stream.read(min(most, blocks)),
            lambda _status, content: found.append(content),
        )
    return store, found


@settings(deadline=None, max_examples=60)
@given(contents, recipes, st.integers(1, 5000))
def test_every_way_makes_the_same_objects(tmp_path_factory, data, recipe, blocks):
    store, found = stored_each_way(data, recipe, tmp_path_factory.mktemp("t"), blocks)

    first = found[0]
    assert found == [first] * 4
    assert first.size == len(data)
    assert all(read == data for read in content_in(store, first, recipe))
    marks = CutFinder(SIZES).feed(data) if len(data) > SIZES.minimum else []
    assert [chunk.offset for chunk in first.chunks] == ([0, *marks] if marks else [])
    assert (first.digest is None) == (bool(marks) and not recipe.has_whole)


def test_external_content_is_named_and_not_stored(tmp_path):
    recipe = Recipe(compression=Compression.NONE, sizes=SIZES, is_external=True)

    store, found = stored_each_way(b"far away" * 2000, recipe, tmp_path, 100)

    assert not store.content
    assert found[0].chunks
    assert found[0].chunks[0].digest == Algorithm.SHA1.digest(
        (b"far away" * 2000)[: found[0].chunks[0].size]
    )


def test_results_come_in_the_order_of_adding_and_are_counted():
    store, seen, progress = MemoryStore(), [], Progress()
    with open_writer(store, Recipe(sizes=SIZES), progress=progress) as writer:
        for number in range(300):
            data = b"%d," % number * (1 + number % 7 * 300)
            writer.add_bytes(data, lambda _status, content, n=number: seen.append(n))

    assert seen == list(range(300))
    assert progress.files == 300
    assert progress.stored_objects == len(store.content)
    assert progress.stored_bytes == sum(map(len, store.content.values()))


def test_steps_are_taken_between_what_is_added_around_them(tmp_path):
    seen = []
    with open_writer(MemoryStore(), Recipe(sizes=SIZES)) as writer:
        for number in range(500):
            if number % 3:
                writer.then(lambda n=number: seen.append(n))
            else:
                stream = io.BytesIO(b"%d" % number * (number * 5))
                writer.add_stream(stream.read, lambda _status, _content, n=number: seen.append(n))

    assert seen == list(range(500))


def test_a_file_with_a_recipe_of_its_own_follows_it():
    store, found = MemoryStore(), []
    plain = Recipe(compression=Compression.NONE)
    with open_writer(store, Recipe()) as writer:
        for recipe in (None, plain, None):
            writer.add_bytes(
                b"text" * 500, lambda _status, content: found.append(content), recipe=recipe
            )

    assert found[0] == found[2]
    assert found[1].digest == Algorithm.SHA1.digest(b"text" * 500)


def test_what_the_store_has_is_not_stored_again():
    store = MemoryStore()
    for expected in (1, 0):
        progress = Progress()
        with open_writer(store, Recipe(), progress=progress) as writer:
            writer.add_bytes(b"once", lambda _status, content: None)
        assert progress.stored_objects == expected


@pytest.mark.parametrize("change", [os.remove, lambda path: path.write_bytes(b"more content")])
def test_a_source_that_is_not_what_was_found_is_refused_by_name(tmp_path, change):
    (tmp_path / "file").write_bytes(b"content")
    found = [one for one in walk(tmp_path) if one.is_file]
    change(tmp_path / "file")

    with (
        pytest.raises((ChangedError, NotFoundError), match="file"),
        open_writer(MemoryStore(), Recipe()) as writer,
    ):
        writer.add(found[0], lambda _status, content: None)


def test_a_store_that_fails_ends_the_publication():
    class FullStore(MemoryStore):
        def put(self, path, data):
            raise SpaceError("full")

    def store_much():
        with open_writer(FullStore(), Recipe()) as writer:
            for _ in range(1000):
                writer.add_bytes(os.urandom(5000), lambda _status, content: None)

    with pytest.raises(SpaceError):
        store_much()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_store_that_fails_as_none_should_is_not_waited_for():
    class BrokenStore(MemoryStore):
        def put(self, path, data):
            raise ZeroDivisionError

    def store_one():
        with open_writer(BrokenStore(), Recipe()) as writer:
            writer.add_bytes(b"content", lambda _status, content: None)

    with pytest.raises(RuntimeError, match="thread failed"):
        store_one()


def test_no_more_waits_for_a_slow_store_than_is_bearable():
    class SlowStore(MemoryStore):
        def put(self, path, data):
            if not self.content:
                time.sleep(1)
            super().put(path, data)

    most, done = 0, []
    with open_writer(SlowStore(), Recipe(), workers=1) as writer:
        for number in range(6_000):
            writer.add_bytes(b"%d" % number, lambda _status, content: done.append(content.size))
            most = max(most, number + 1 - len(done))
    assert len(done) == 6_000
    assert most <= 4_300
