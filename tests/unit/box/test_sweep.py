"""What a demo may remove is told from what it may not."""

import json

import pytest

from cernvm.box.publication import Publication, is_current, read_publication
from cernvm.box.sweep import check_clean, mark, remove_everything, sweep, was_here, withdraw
from cernvm.core.errors import ConflictError
from cernvm.core.process import record_process


def fill(home):
    for folder in (
        "releases/os",
        "srv/os.cernvm.test",
        "repositories",
        "templates",
        "clouds",
        "run",
    ):
        (home.path / folder).mkdir(parents=True)
    (home.repositories / "os.cernvm.test.toml").touch()
    (home.templates / "evgen.tpl").touch()
    (home.clouds / "local.conf").touch()


def test_a_folder_that_the_demo_made_goes_away_whole(home):
    mark(home)
    fill(home)
    check_clean(home)
    assert remove_everything(home) == f"removed {home.path}"
    assert not home.path.exists()


def test_a_folder_that_was_there_stays_empty(home):
    home.path.mkdir()
    mark(home)
    fill(home)
    assert remove_everything(home) == f"emptied {home.path}"
    assert list(home.path.iterdir()) == []


def test_the_first_mark_counts(home):
    home.path.mkdir()
    mark(home)
    mark(home)
    remove_everything(home)
    assert home.path.is_dir()


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("thesis.tex", "thesis.tex"),
        ("repositories/mine.cernvm.test.toml", "the repository mine.cernvm.test"),
        ("templates/mine.tpl", "the template mine.tpl"),
        ("clouds/cern.conf", "the region cern.conf"),
    ],
)
def test_what_no_demo_made_is_named_and_nothing_is_removed(home, path, named):
    mark(home)
    fill(home)
    (home.path / path).write_text("mine")
    with pytest.raises(ConflictError, match=named):
        check_clean(home)
    assert (home.path / "releases/os").is_dir()


def test_a_demo_that_could_not_begin_takes_its_mark_back(home):
    mark(home)
    home.run.mkdir()
    (home.run / "demo.lock").touch()
    withdraw(home)
    assert not home.path.exists()
    withdraw(home)


def test_a_demo_that_began_keeps_what_it_has(home):
    mark(home)
    fill(home)
    withdraw(home)
    assert was_here(home)


def test_stale_records_are_swept_and_live_ones_kept(home):
    live = record_process(home.run / "repo.json", "cvm repo serve")
    (home.run / "mounts").mkdir()
    for name in ("site.json", "mounts/1.json"):
        row = {"pid": live.pid, "started": live.started - 1, "what": "dead", "address": ""}
        (home.run / name).write_text(json.dumps(row))
    (home.run / "bus.json").write_bytes(b"\xffdamaged")
    assert len(sweep(home)) == 3
    assert [path.name for path in home.run.glob("*.json")] == ["repo.json"]


def test_a_release_is_published_again_when_it_changed_or_its_signature_grows_old(home, tmp_path):
    storage = home.storage / "os.cernvm.test"
    last = Publication("digest", 3, at=1000.0)
    assert not is_current(last, home, "os.cernvm.test", "digest", now=1001.0)
    storage.mkdir(parents=True)
    (storage / ".cvmfspublished").touch()
    assert is_current(last, home, "os.cernvm.test", "digest", now=1001.0)
    assert not is_current(last, home, "os.cernvm.test", "other", now=1001.0)
    assert not is_current(last, home, "os.cernvm.test", "digest", now=1001.0 + 8 * 86400)
    (tmp_path / "p").write_bytes(b"[]")
    assert read_publication(tmp_path / "p") is None
