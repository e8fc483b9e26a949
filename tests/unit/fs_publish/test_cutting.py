import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from cernvm.fs.format.pack import MAX_OBJECTS
from cernvm.fs.format.pack_table import SMALL_BYTES, packing_keys
from cernvm.fs.publish.cutting import LEAST_BYTES, MOST_BYTES, OBJECT_BYTES, cut_stretches


def files_of(sizes):
    """Keys and sizes, in packing order, of a tree given as path: size."""
    paths = list(sizes)
    return sorted(zip(packing_keys(paths), (sizes[path] for path in paths), strict=True))


def random_tree(seed, folders=200):
    chosen = random.Random(seed)
    return {
        b"/d%d/e%d/f%d" % (folder % 9, folder, number): chosen.randrange(1, 20_000)
        for folder in range(folders)
        for number in range(chosen.randrange(1, 25))
    }


def counted(files, stretch):
    return sum(files[at][1] + OBJECT_BYTES for at in stretch)


@given(st.lists(st.integers(0, SMALL_BYTES), max_size=400))
def test_every_file_is_in_one_stretch_and_no_stretch_is_too_large(sizes):
    files = files_of({b"/d%d/f%d" % (at % 7, at): size for at, size in enumerate(sizes)})
    stretches = cut_stretches(files)

    assert [at for stretch in stretches for at in stretch] == list(range(len(files)))
    for stretch in stretches:
        assert counted(files, stretch) <= MOST_BYTES
        assert len(stretch) <= MOST_BYTES // OBJECT_BYTES <= MAX_OBJECTS
    for stretch in stretches[:-1]:
        assert counted(files, stretch) >= LEAST_BYTES


def test_a_tree_that_fits_is_one_stretch():
    assert cut_stretches(files_of(random_tree(1, folders=5))) == [
        range(len(random_tree(1, folders=5)))
    ]
    assert cut_stretches([]) == []


def test_cuts_lie_between_directories_where_they_can():
    files = files_of(random_tree(2))
    stretches = cut_stretches(files)
    assert len(stretches) > 10
    for before, after in itertools.pairwise(stretches):
        assert files[before[-1]][0][0] != files[after[0]][0][0]


def test_a_directory_that_is_too_large_is_cut_inside():
    files = files_of({b"/big/f%d" % number: 50_000 for number in range(200)})
    assert 5 <= len(cut_stretches(files)) <= 10


def test_a_change_moves_the_cuts_near_it_only():
    tree = random_tree(3)
    before = contents(tree)
    for path in (b"/d3/e3/new", b"/d0/e9/new", b"/d8/e107/new"):
        after = contents({**tree, path: 100_000})
        assert len(after - before) <= 4, path


def contents(tree):
    """The stretches as sets of keys."""
    files = files_of(tree)
    return {tuple(files[at] for at in stretch) for stretch in cut_stretches(files)}
