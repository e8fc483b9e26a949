"""A release is built layer by layer, and only what changed is built again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.box.release.inputs import (
    Layer,
    build_release,
    complete_layers,
    digest_of,
    digest_of_files,
    read_stamp,
)


def recording_layers(calls, **digests):
    def build(name):
        def run(tree, progress):
            tree.mkdir(exist_ok=True)
            calls.append(name)

        return run

    return [Layer(name, digest, build(name)) for name, digest in digests.items()]


def quiet(_):
    pass


def test_a_first_build_builds_every_layer_in_order(tmp_path):
    calls = []
    release = build_release(tmp_path / "os", recording_layers(calls, a="1", b="2", c="3"), quiet)
    assert calls == ["a", "b", "c"]
    assert release.built


def test_an_unchanged_release_is_recognised(tmp_path):
    first = build_release(tmp_path / "os", recording_layers([], a="1", b="2"), quiet)
    calls = []
    again = build_release(tmp_path / "os", recording_layers(calls, a="1", b="2"), quiet)
    assert calls == []
    assert not again.built
    assert again.digest == first.digest


def test_a_changed_layer_is_built_again_with_all_above_it(tmp_path):
    build_release(tmp_path / "os", recording_layers([], a="1", b="2", c="3"), quiet)
    calls = []
    build_release(tmp_path / "os", recording_layers(calls, a="1", b="9", c="3"), quiet)
    assert calls == ["b", "c"]


def test_a_layer_that_failed_counts_as_absent(tmp_path):
    build_release(tmp_path / "os", recording_layers([], a="1", b="2"), quiet)

    def fail(tree, progress):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        build_release(tmp_path / "os", [*recording_layers([], a="1"), Layer("b", "3", fail)], quiet)
    calls = []
    build_release(tmp_path / "os", recording_layers(calls, a="1", b="2"), quiet)
    assert calls == ["b"]


def test_a_tree_that_was_deleted_is_built_again_though_its_stamp_stands(tmp_path):
    build_release(tmp_path / "os", recording_layers([], a="1"), quiet)
    (tmp_path / "os").rmdir()
    calls = []
    build_release(tmp_path / "os", recording_layers(calls, a="1"), quiet)
    assert calls == ["a"]


@pytest.mark.parametrize(
    "damaged", [b"", b"\xff\xfe", b"[]", b'{"layers": 3}', b'{"layers": [{}]}']
)
def test_a_damaged_stamp_means_that_nothing_is_complete(tmp_path, damaged):
    (tmp_path / "os.stamp").write_bytes(damaged)
    assert read_stamp(tmp_path / "os.stamp") == ()


@given(st.lists(st.text(max_size=3), max_size=5), st.lists(st.text(max_size=3), max_size=5))
def test_complete_layers_are_the_common_beginning(stamped, wanted):
    layers = [Layer(str(i), digest, lambda tree, progress: None) for i, digest in enumerate(wanted)]
    count = complete_layers(stamped, layers)
    assert stamped[:count] == wanted[:count]
    assert count == min(len(stamped), len(wanted)) or stamped[count] != wanted[count]


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_digests_tell_different_lists_apart(one, other):
    assert (digest_of(one) == digest_of(other)) == (one == other)


def test_a_package_digest_sees_names_and_contents_but_no_bytecode(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    before = digest_of_files(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.cpython-311.pyc").write_bytes(b"code")
    assert digest_of_files(tmp_path) == before
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    renamed = digest_of_files(tmp_path)
    assert renamed != before
    (tmp_path / "b.py").write_text("x = 2")
    assert digest_of_files(tmp_path) != renamed
