"""The words of `cvm repo` that look at a store and keep it."""

import json
import shutil
import signal
from datetime import UTC, datetime, timedelta

import pytest

from cernvm.cli.main import main
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.replicate.state import STATUS_PATH, format_date, note_status, read_document
from cernvm.fs.replicate.through.record import PassThrough, write_pass_through
from cernvm.fs.survey.opened import Revision
from cernvm.fs.survey.reading import read_tags

from .conftest import NAME


@pytest.fixture
def run(home, monkeypatch, capsys):
    """Runs `cvm repo …` here; gives what it printed."""
    monkeypatch.setenv("CVM_HOME", str(home.path))

    def run(*words, status=0):
        with pytest.raises(SystemExit) as end:
            main(["repo", *map(str, words)])
        printed = capsys.readouterr()
        assert (end.value.code or 0) == status, printed.err
        return printed.out if status == 0 else printed.out + printed.err

    terminate = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, terminate)


@pytest.fixture
def answer(run):
    """The same, with `--json`, parsed."""
    return lambda *words: json.loads(run(*words, "--json"))


def test_info_says_what_programs_rely_on(answer, repository, store):
    manifest = read_manifest(repository, store)
    told = answer("info", NAME)

    assert told["storage"] == repository.storage
    assert told["public_key"] == str(repository.keys.public)
    assert told["revision"] == manifest.revision == 8
    assert told["root_hash"] == str(manifest.root_catalog)
    assert told["published_at"] == f"{manifest.published_at:%Y-%m-%dT%H:%M:%SZ}"
    assert set(told["tags"]) == {"v2", "v5", "trunk", "trunk-previous"}
    assert told["gc_enabled"] is True


def test_a_difference_is_told_line_by_line_and_in_total(run):
    lines = [json.loads(line) for line in run("diff", NAME, "v2", "v5", "--json").splitlines()]

    changed = {line["path"]: line["kind"] for line in lines[:-1]}
    assert changed["/number"] == "modified"
    assert lines[-1]["totals"]["modified"] == len([k for k in changed.values() if k == "modified"])
    assert run("diff", NAME, "v2", "v5", "--at", "/number").startswith("M")
    assert run("diff", NAME, "v5", "v5").startswith("0 added, 0 removed")
    assert "no tag or revision 'v9'" in run("diff", NAME, "v9", status=12)


def test_revisions_are_listed_with_what_they_hold_and_changed(run, answer, repository, store):
    rows = answer("revisions", NAME, "--changes")

    assert [row["revision"] for row in rows] == list(range(8, -1, -1))
    assert rows[0]["tags"] == ["trunk"]
    assert rows[0]["entries"] == 18
    assert rows[-1]["changes"] is None, "there is none before it"
    assert rows[-2]["changes"]["added"] == 17
    assert rows[0]["changes"]["modified"] == 13
    run("gc", NAME, "--keep", 0)
    assert [row["revision"] for row in answer("revisions", NAME)] == [8, 7, 6, 3]
    assert len(run("revisions", NAME, "--last", 2).splitlines()) == 3


def test_catalogs_are_shown_as_a_tree(run, answer):
    assert [row["path"] for row in answer("catalogs", NAME)] == ["/", "/sub", "/sub/deep"]
    lines = run("catalogs", NAME, "--tag", "v2").splitlines()
    assert [line.split()[0] for line in lines] == ["CATALOG", "/", "/sub", "/sub/deep"]


def test_what_others_named_commands_no_terminal(run, repository, store, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "evil\x1b[2J\nM 5 number").write_text("content")
    run("publish", NAME, tmp_path / "tree", "--at", "/odd")
    run("tag", NAME, "add", "evil", "--message", "\x1b]0;owned\x07")
    store.delete(next(path for path in _objects_of(store, repository, b"/odd")))

    told = [
        run("diff", NAME),
        run("check", NAME, status=52),
        run("tags", NAME),
        run("tag", NAME, "show", "evil"),
    ]

    assert all("\x1b" not in one and "\x07" not in one for one in told)
    assert not any(line.startswith("M") for line in told[0].splitlines())
    assert "/odd/evil?[2J?M 5 number" in told[0] + told[1]


def _objects_of(store, repository, path):
    revision = Revision(store, read_manifest(repository, store).root_catalog)
    for item in revision.listing(path, revision.holder(path)):
        yield object_path(item.entry.digest, ObjectKind.PLAIN)


def test_tags_are_added_moved_shown_and_removed(run, answer, repository, store):
    assert answer("tag", NAME, "add", "good", "--to", "v2", "--message", "works")["revision"] == 3
    assert answer("tag", NAME, "move", "good", "--to", "v5")["revision"] == 6
    shown = answer("tag", NAME, "show", "good")
    assert (shown["description"], shown["revision"]) == ("works", 6)
    assert "exists" in run("tag", NAME, "add", "good", status=13)
    assert "kept by the publisher" in run("tag", NAME, "remove", "trunk", status=11)
    assert "no tag 'other'" in run("tag", NAME, "move", "other", status=12)
    run("tag", NAME, "remove", "good", "v2")

    names = {row["name"] for row in answer("tag", NAME, "list")}
    assert names == {"v5", "trunk", "trunk-previous"}
    assert answer("check", NAME, "--all-tags")["problems"] == 0
    assert read_manifest(repository, store).revision == 8


def test_a_revision_is_named_by_its_root_hash_as_long_as_it_is_there(
    run, answer, repository, store
):
    manifest = read_manifest(repository, store)
    before = {tag.name: tag for tag in read_tags(manifest, store)}["v2"].root_catalog
    run("tag", NAME, "remove", "v2")

    assert answer("tag", NAME, "add", "again", "--to", before)["revision"] == 3
    run("tag", NAME, "remove", "again")
    run("gc", NAME, "--keep", 0)
    assert "no object" in run("tag", NAME, "add", "again", "--to", before, status=12)


def test_rolling_back_publishes_what_was_and_can_be_undone(run, answer):
    rolled = answer("rollback", NAME, "--to", "v2")
    assert rolled["revision"] == 9
    assert run("diff", NAME, "v2").startswith("0 added, 0 removed, 0 modified, 0 with")

    assert answer("rollback", NAME)["revision"] == 10
    assert answer("check", NAME, "--all-tags", "--data")["problems"] == 0
    undone = run("diff", NAME, "v5", "trunk", "--at", "/number")
    assert undone.startswith("M")


def test_a_part_is_rolled_back_alone(run, answer):
    run("rollback", NAME, "--to", "v2", "--at", "/sub/deep")

    assert run("diff", NAME, "v2", "--at", "/sub/deep").startswith("0 added, 0 removed, 0 modified")
    assert run("diff", NAME, "v2", "--at", "/number").startswith("M")
    assert answer("check", NAME, "--data")["problems"] == 0
    assert "no path" in run("rollback", NAME, "--to", "v2", "--at", "/nowhere", status=12)


def test_rolling_back_may_forget_the_names_of_what_came_later(run, answer):
    run("rollback", NAME, "--to", "v2", "--drop-tags", "--tag", "back")

    names = {row["name"] for row in answer("tags", NAME)}
    assert names == {"v2", "back", "trunk", "trunk-previous"}


def test_only_later_names_of_the_trunk_are_forgotten_whatever_the_revision_is_called(
    run, answer, repository, store, tmp_path
):
    (tmp_path / "beside").mkdir()
    run("publish", NAME, tmp_path / "beside", "--at", "/beside", "--branch", "next", "--tag", "b1")
    target = {row["name"]: row for row in answer("tags", NAME)}["v5"]["root_hash"]
    run("tag", NAME, "add", "early", "--to", "v2")
    run("tag", NAME, "add", "late")
    run("tag", NAME, "remove", "v5")

    run("rollback", NAME, "--to", target, "--drop-tags", "--tag", "back")

    names = {row["name"] for row in answer("tags", NAME)}
    assert names == {"v2", "early", "b1", "back", "trunk", "trunk-previous"}


def test_a_dry_rollback_changes_nothing(run, answer):
    before = answer("info", NAME)

    assert "modified" in run("rollback", NAME, "--to", "v2", "--dry-run")
    assert answer("rollback", NAME, "--to", "v2", "--dry-run")["totals"]["modified"]

    assert answer("info", NAME) == before


def test_collecting_tells_what_it_did(run, answer, tmp_path):
    kept = answer("gc", NAME)
    dry = answer("gc", NAME, "--keep", 1, "--dry-run")
    log = tmp_path / "deleted"
    done = answer("gc", NAME, "--keep", 1, "--log", log)

    assert kept["gone_revisions"] == 0, "all are younger than three days"
    assert dry["gone_revisions"] == done["gone_revisions"] == 5
    lines = log.read_text().splitlines()
    assert sum(int(line.split()[1]) for line in lines) == done["freed_bytes"] == dry["freed_bytes"]
    assert answer("check", NAME, "--data", "--all-tags", "--everything")["notes"] == 0


def test_problems_end_a_check_with_their_status(run, repository, store):
    number = Revision(store, read_manifest(repository, store).root_catalog).find(b"/number")
    lost = object_path(number.entry.digest, ObjectKind.PLAIN)
    store.delete(lost)

    told = run("check", NAME, status=52)

    assert f"/number ({lost}): it is not in the store" in told
    assert run("check", store.folder, "--json", status=52)


def test_a_folder_is_checked_with_a_key(run, repository):
    told = run("check", repository.storage, "--key", repository.keys.public)

    assert told.endswith("no problems\n")
    assert "note" not in told


def test_garbage_is_collected_after_a_publication_where_that_is_wanted(run, answer, home, tmp_path):
    record = home.repositories / f"{NAME}.toml"
    record.write_text(record.read_text() + "auto_gc = true\ngc_keep_days = 0\n")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "new").write_text("new")

    run("publish", NAME, tree, "--at", "/new")
    collected = answer("check", NAME, "--everything")
    (tree / "new").write_text("newer")
    run("publish", NAME, tree, "--at", "/new")
    lapse = answer("check", NAME, "--everything")

    assert collected["revisions"] == 4, "head, the one before, and two with names"
    assert lapse["revisions"] == 5, "a day has not passed"


@pytest.mark.parametrize(
    "words",
    [
        ("rollback", NAME, "--to", "v2"),
        ("copy", NAME, "/sub", "/other"),
        ("tag", NAME, "add", "good"),
        ("tag", NAME, "move", "v5"),
        ("tag", NAME, "remove", "v5"),
    ],
    ids=lambda words: " ".join(words[:-1]),
)
def test_garbage_is_collected_after_whatever_made_it(run, home, store, words):
    record = home.repositories / f"{NAME}.toml"
    record.write_text(record.read_text() + "auto_gc = true\n")

    run(*words)

    assert read_document(store, STATUS_PATH)["last_gc"]


def test_a_collection_in_the_future_does_not_put_off_all_others(run, home, store):
    record = home.repositories / f"{NAME}.toml"
    record.write_text(record.read_text() + "auto_gc = true\n")
    future = format_date(datetime.now(UTC) + timedelta(days=3650))  # a clock was wrong
    note_status(store, {"last_gc": future})

    run("tag", NAME, "add", "good")

    assert read_document(store, STATUS_PATH)["last_gc"] != future


def test_a_collection_that_cannot_be_does_not_undo_what_was_published(run, home, capsys):
    record = home.repositories / f"{NAME}.toml"
    record.write_text(record.read_text() + "auto_gc = true\nauto_gc_lapse_days = 0\ngc = false\n")

    run("tag", NAME, "add", "good")
    run("copy", NAME, "/sub", "/other")

    assert json.loads(run("info", NAME, "--json"))["revision"] == 9


def test_a_replica_is_collected_without_a_new_signature(run, repository, tmp_path):
    copy = tmp_path / "replica"
    shutil.copytree(repository.storage, copy)
    served = (copy / ".cvmfspublished").read_bytes()

    told = json.loads(run("gc", copy, "--keep", 0, "--json"))

    assert told["gone_revisions"] == 5
    assert (copy / ".cvmfspublished").read_bytes() == served
    checked = json.loads(run("check", copy, "--everything", "--json"))
    assert checked["problems"] == 0
    assert checked["revisions"] == 4


def test_a_store_that_is_gone_hides_no_other_repository(answer, repository, home, capsys):
    record = home.path / "repositories" / "gone.cernvm.test.toml"
    shutil.copy(home.path / "repositories" / f"{NAME}.toml", record)
    text = record.read_text().replace(NAME, "gone.cernvm.test")
    record.write_text(text.replace(repository.storage, "/nowhere"))

    rows = {row["name"]: row for row in answer("ls")}

    assert rows[NAME]["revision"] == 8
    assert "error" in rows["gone.cernvm.test"]


def test_what_is_passed_through_is_listed(answer, repository, home):
    url = "http://a.example/cvmfs/x.cernvm.test"
    write_pass_through(
        home,
        PassThrough("x.cernvm.test", home.path / "x", (url,), (repository.keys.public,)),
    )

    rows = {row["name"]: row["kind"] for row in answer("ls")}

    assert rows == {NAME: "repository", "x.cernvm.test": "pass-through"}
