from hypothesis import given
from hypothesis import strategies as st

from cernvm.fs.publish.draft.weighing import CatalogLimits, heavy_folders


@st.composite
def trees(draw):
    """Parents of directories, the root first, and how many names each lists."""
    number = draw(st.integers(1, 30))
    parents = [-1] + [draw(st.integers(0, at - 1)) for at in range(1, number)]
    files = [draw(st.integers(0, 12)) for _ in range(number)]
    return parents, [files[at] + parents.count(at) for at in range(number)]


limits = st.builds(CatalogLimits, st.integers(1, 60), st.integers(1, 10))


@given(trees(), limits)
def test_a_catalog_is_too_heavy_only_where_nothing_heavy_is_left_to_take_out(tree, chosen):
    parents, names = tree
    heavy = set(heavy_folders(parents, names, chosen))

    weights = weigh(parents, names, heavy)
    for top in {0, *heavy}:
        if weights[top] > chosen.most_entries:
            children = [at for at, parent in enumerate(parents) if parent == top]
            assert all(weights[at] < chosen.fewest_entries for at in children if at not in heavy)
    assert all(weights[at] >= chosen.fewest_entries for at in heavy)
    assert 0 not in heavy


@given(trees())
def test_what_fits_is_not_split(tree):
    parents, names = tree

    assert heavy_folders(parents, names, CatalogLimits(sum(names), 1)) == []


@given(trees(), limits, st.sets(st.integers(0, 29)))
def test_a_directory_that_is_unfit_is_never_taken_out(tree, chosen, unfit):
    assert not unfit & set(heavy_folders(*tree, chosen, unfit))


def weigh(parents, names, heavy):
    """How many entries each directory's catalog would hold if it had one."""
    weights = list(names)
    for at in range(len(parents) - 1, 0, -1):
        if at not in heavy:
            weights[parents[at]] += weights[at]
    return weights
