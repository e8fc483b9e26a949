"""Changes by hand while somebody else, whom no lock of this machine can stop, publishes."""

import os
import shutil
from contextlib import contextmanager

import pytest

from cernvm.core.errors import ConflictError, TransactionOpenError
from cernvm.fs.edit.opening import abort, begin
from cernvm.fs.edit.publishing import publish_edits
from cernvm.fs.publish.creating import remove_repository
from cernvm.fs.publish.publishing import Options, publish_tree
from cernvm.fs.publish.transaction import open_transaction
from cernvm.fs.store.local import LocalStore

from .conftest import contents


@pytest.fixture
def elsewhere(bench, published, tree):
    """Publish what is in the plain folder, as another machine would in the middle of an edit."""

    def publish():
        return publish_tree(
            bench.repository, bench.store, tree, options=Options(within_transaction=True)
        )

    return publish


def test_what_both_published_apart_goes_together(bench, published, elsewhere, tree):
    begin(bench)
    (bench.place.upper / "ours").write_text("ours")
    (tree / "theirs").write_text("theirs")
    elsewhere()

    publish_edits(bench)

    found = contents(bench)
    assert (found["/ours"], found["/theirs"]) == (b"ours", b"theirs")
    assert found["/v1/lib/deep/b"] == b"b"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda upper: (upper / "run").write_text("ours"), lambda tree: (tree / "run").write_text("its")),
        (lambda upper: (upper / "run").write_text("ours"), lambda tree: (tree / "run").unlink()),
        (lambda upper: _inside(upper).write_text("ours"), lambda tree: _remove(tree / "v1")),
        (lambda upper: _inside(upper).write_text("ours"), lambda tree: _replace(tree / "v1")),
    ],
    ids=["both wrote", "we wrote, they deleted", "we wrote in a folder that they deleted", "or replaced by a file"],
)  # fmt: skip
def test_what_both_changed_is_a_conflict_and_nothing_is_lost(
    bench, published, elsewhere, tree, ours, theirs
):
    begin(bench)
    ours(bench.place.upper)
    theirs(tree)
    elsewhere()
    before = contents(bench)

    with pytest.raises(ConflictError, match="somebody else"):
        publish_edits(bench)

    assert contents(bench) == before
    assert open_transaction(bench.repository) is not None
    abort(bench)


def test_a_repository_is_not_removed_under_an_open_transaction(bench, published):
    begin(bench)

    with pytest.raises(TransactionOpenError):
        remove_repository(bench.home, bench.repository)

    assert contents(bench)["/empty"] == b""
    abort(bench)
    remove_repository(bench.home, bench.repository)


def test_what_both_did_alike_is_no_conflict(bench, published, elsewhere, tree):
    begin(bench)
    for folder in (bench.place.upper, tree):
        (folder / "same").write_text("same")
        (folder / "same").chmod(0o640)
        _at(folder / "same")
    elsewhere()

    publish_edits(bench)

    assert contents(bench)["/same"] == b"same"


def test_a_publication_that_died_before_it_closed_the_transaction_is_repeated(
    bench, published, tmp_path
):
    begin(bench, template=(b"/v1", b"/v3"))
    (bench.place.upper / "new").write_text("new")
    (bench.place.upper / "v3").mkdir()
    (bench.place.upper / "v3" / "one").write_text("linked")
    (bench.place.upper / "v3" / "two").hardlink_to(bench.place.upper / "v3" / "one")
    record = bench.repository.index.with_name(f"{bench.repository.name}.transaction")
    shutil.copytree(bench.place.upper, tmp_path / "kept")
    text = record.read_bytes()
    first = publish_edits(bench)
    record.write_bytes(text)
    shutil.copytree(tmp_path / "kept", bench.place.upper)

    again = publish_edits(bench)

    assert (again.is_new, again.revision) == (False, first.revision)
    found = contents(bench)
    assert (found["/new"], found["/v3/two"]) == (b"new", b"linked")
    assert open_transaction(bench.repository) is None


def test_a_template_is_not_lost_when_somebody_published_meanwhile(
    bench, published, elsewhere, tree
):
    begin(bench, template=(b"/v1", b"/fresh/v3"))
    (bench.place.upper / "ours").write_text("ours")
    (tree / "theirs").write_text("theirs")
    elsewhere()

    publish_edits(bench)

    found = contents(bench)
    assert (found["/ours"], found["/theirs"]) == (b"ours", b"theirs")
    assert found["/fresh/v3/lib/deep/b"] == b"b"


def test_a_template_does_not_take_the_place_of_what_somebody_published_there(
    bench, published, elsewhere, tree
):
    begin(bench, template=(b"/v1", b"/v3"))
    (tree / "v3").write_text("theirs")
    elsewhere()

    with pytest.raises(ConflictError, match="v3"):
        publish_edits(bench)

    assert contents(bench)["/v3"] == b"theirs"
    assert open_transaction(bench.repository) is not None
    abort(bench)


def test_who_publishes_while_the_store_is_waited_for_is_not_overwritten(
    bench, published, elsewhere, tree, monkeypatch
):
    begin(bench)
    (bench.place.upper / "run").write_text("ours")
    (tree / "run").write_text("theirs")
    held = LocalStore.exclusive

    @contextmanager
    def after_them(store, wait_s=0.0):
        monkeypatch.setattr(LocalStore, "exclusive", held)
        elsewhere()
        with held(store, wait_s):
            yield

    monkeypatch.setattr(LocalStore, "exclusive", after_them)
    with pytest.raises(ConflictError, match="run"):
        publish_edits(bench)

    assert contents(bench)["/run"] == b"theirs"
    abort(bench)


def _inside(upper):
    (upper / "v1" / "lib").mkdir(parents=True)
    return upper / "v1" / "lib" / "new"


def _remove(folder):
    shutil.rmtree(folder)


def _replace(folder):
    _remove(folder)
    folder.write_text("a file")


def _at(path):
    os.utime(path, ns=(0, 1_600_000_000_000_000_000))
