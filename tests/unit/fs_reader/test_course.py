import itertools

from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.digest import Algorithm
from cernvm.fs.cache import ContentKey
from cernvm.fs.format.objects import ObjectKind
from cernvm.fs.format.pack import Pack
from cernvm.fs.reader.ahead.course import (
    MANY,
    Folder,
    Stop,
    Wanted,
    WantedPack,
    directory,
    surroundings,
    walk,
)
from cernvm.fs.reader.ahead.tally import Way

NAMES = [bytes([letter]) for letter in b"abcdef"]


def key_of(path):
    return ContentKey(Algorithm.SHA1.digest(path))


def file_at(path):
    wanted = Wanted(Way.DIRECTORY, key_of(path), ObjectKind.PLAIN, 10)
    return Stop(path.rpartition(b"/")[2], is_directory=False, is_file=True, wanted=(wanted,))


trees = st.recursive(
    st.none(),
    lambda below: st.dictionaries(st.sampled_from(NAMES), below, max_size=4),
    max_leaves=30,
).filter(lambda tree: tree is not None)


def folders_of(tree, path=b""):
    """Each directory of a tree (name -> None for a file, else a directory) by its path."""
    stops = []
    found = {}
    for name, below in tree.items():
        child = path + b"/" + name
        if below is None:
            stops.append(file_at(child))
        else:
            stops.append(Stop(name, is_directory=True))
            found |= folders_of(below, child)
    return {path: Folder(stops), **found}


def walked(folders, path=b""):
    """The files in the order in which a walk meets them."""
    for stop in folders[path].stops:
        child = path + b"/" + stop.name
        yield from walked(folders, child) if stop.is_directory else [child]


@given(trees, st.data())
def test_a_walk_finds_all_that_comes_next_in_its_own_order(tree, data):
    folders = folders_of(tree)
    files = list(walked(folders))
    if not files:
        return
    start = data.draw(st.sampled_from(files))

    keys = [step.key for step in walk(start, folders.get)]

    seen = list(dict.fromkeys(keys))
    after = [key_of(path) for path in files[files.index(start) + 1 :]]
    assert [key for key in seen if key in set(after)] == after


@given(trees, st.data())
def test_a_directory_is_all_of_its_other_files_and_no_more(tree, data):
    folders = folders_of(tree)
    files = list(walked(folders))
    if not files:
        return
    start = data.draw(st.sampled_from(files))
    folder = start.rpartition(b"/")[0]

    keys = [step.key for step in directory(start, folders.get)]

    paths = [folder + b"/" + stop.name for stop in folders[folder].stops if stop.is_file]
    others = [key_of(path) for path in paths if path != start]
    assert sorted(keys, key=str) == sorted(others, key=str)


def test_a_directory_that_is_not_at_hand_is_passed_by():
    folders = folders_of({b"a": None, b"b": {b"c": None}, b"d": None})
    del folders[b"/b"]

    keys = [step.key for step in walk(b"/a", folders.get)]

    assert keys == [key_of(b"/d"), key_of(b"/a")]


def test_packs_come_before_the_large_files_of_their_directory():
    pack = Pack(Algorithm.SHA1.digest(b"pack"), 100, 3)
    folders = {b"": Folder([file_at(b"/large")], [pack])}

    steps = list(walk(b"/small", folders.get))

    assert steps[0] == WantedPack(Way.PACK, pack)
    assert [step.key for step in steps[1:]] == [key_of(b"/large")]


def test_a_course_is_made_as_it_is_followed():
    looked = []
    folders = folders_of({b"a": None, **{b"d%d" % n: {b"f": None} for n in range(50)}})

    def survey(path):
        looked.append(path)
        return folders[path]

    list(itertools.islice(walk(b"/a", survey), 3))

    assert len(looked) <= 5


def test_of_the_same_suffix_comes_first():
    folders = {b"": Folder([file_at(b"/a.py"), file_at(b"/b.so"), file_at(b"/c.py")])}
    keys = [step.key for step in directory(b"/c.py", folders.get)]
    assert keys == [key_of(path) for path in (b"/a.py", b"/b.so")]


def test_surroundings_are_files_of_the_same_suffix_the_deepest_last():
    cache = {b"m.pyc": None}
    tree = {
        b"pkg": {
            b"tests": {b"deep": {b"cache": cache}},
            b"core": {b"cache": cache, b"x.py": None},
            b"cache": {b"a.pyc": None, b"b.pyc": None},
        },
    }
    steps = surroundings(b"/pkg/cache/a.pyc", folders_of(tree).get)

    paths = (b"/pkg/cache/b.pyc", b"/pkg/core/cache/m.pyc")
    assert [step.key for step in steps] == [key_of(path) for path in paths]


def test_a_directory_of_very_many_comes_after_others_of_its_level():
    many = {b"m%d.pyc" % number: None for number in range(MANY + 1)}
    tree = {b"collection": many, b"package": {b"p.pyc": None}, b"cache": {b"a.pyc": None}}
    steps = surroundings(b"/cache/a.pyc", folders_of(tree).get)

    keys = [step.key for step in steps]
    assert keys[0] == key_of(b"/package/p.pyc")
    assert len(keys) == 1 + len(many)


def test_of_surroundings_without_end_few_directories_are_looked_at():
    looked_at = []

    def survey(path):
        looked_at.append(path)
        return Folder([Stop(b"d%d" % number, is_directory=True) for number in range(1000)])

    assert list(surroundings(b"/a/b/c/file", survey)) == []
    assert len(looked_at) < 1000


@given(trees, st.data())
def test_surroundings_have_each_object_once_and_begin_with_the_directory(tree, data):
    folders = folders_of(tree)
    files = list(walked(folders))
    if not files:
        return
    start = data.draw(st.sampled_from(files))

    keys = [step.key for step in surroundings(start, folders.get)]

    own = [step.key for step in directory(start, folders.get)]
    assert keys[: len(own)] == own
    assert len(set(keys)) == len(keys)
