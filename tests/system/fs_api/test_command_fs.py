"""`cvm fs` as a person and a script meet it."""

import hashlib
import json
import os
import stat
import subprocess

import pytest

from cernvm.core.errors import ExistsError
from cernvm.fs.api.copying import copy_out
from conftest import CVM

NAME = "vectors.cernvm.test"


@pytest.fixture
def fs(cvm, vectors):
    def run(word, *arguments, **settings):
        where = ("--url", vectors.url, "--public-key", vectors.key)
        return cvm("fs", word, *where, *arguments, **settings)

    return run


def expected(served):
    with served.listing.open(encoding="utf-8") as lines:
        return {row["path"]: row for row in map(json.loads, lines)}


def test_a_copied_tree_is_the_tree(opened, vectors, tmp_path):
    place = tmp_path / "copy"
    umask = os.umask(0o022)
    os.umask(umask)

    copied = list(copy_out(opened.files, b"/", place, recursive=True))

    found = {}
    for row in expected(vectors).values():
        path = os.path.join(os.fsencode(place), os.fsencode(row["path"]).lstrip(b"/"))
        mode = int(row["mode"], 8)
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            assert not os.path.lexists(path)
            continue
        shown = os.lstat(path)
        found[row["path"]] = row
        assert shown.st_mtime_ns == row["mtime_ns"], row["path"]
        if stat.S_ISLNK(mode):
            assert os.fsdecode(os.readlink(path)) == row["target"]
        else:
            assert stat.S_IMODE(shown.st_mode) == mode & 0o777 & ~umask, row["path"]
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:
                assert hashlib.sha256(file.read()).hexdigest() == row["sha256"]
    assert len(copied) == len(found)
    assert not list(place.rglob("*.part"))


def test_a_second_copy_replaces_files_and_merges_folders(opened, tmp_path):
    for _ in range(2):
        list(copy_out(opened.files, b"/misc", tmp_path / "misc", recursive=True))
        (tmp_path / "misc/hello.txt").write_text("changed")
    (tmp_path / "misc/mine").touch()

    list(copy_out(opened.files, b"/misc", tmp_path / "misc", recursive=True))

    assert (tmp_path / "misc/hello.txt").read_text() == (opened / "misc/hello.txt").read_text()
    assert (tmp_path / "misc/mine").exists()


def test_nothing_is_written_through_a_link_in_the_destination(opened, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("precious")
    place = tmp_path / "misc"
    place.mkdir()
    (place / "hello.txt").symlink_to(elsewhere / "file")
    (place / "nested").symlink_to(elsewhere)

    with pytest.raises(ExistsError, match="nested"):
        list(copy_out(opened.files, b"/misc", place, recursive=True))
    list(copy_out(opened.files, b"/misc/hello.txt", place / "hello.txt", recursive=False))

    assert (elsewhere / "file").read_text() == "precious"
    assert os.listdir(elsewhere) == ["file"]
    assert not (place / "hello.txt").is_symlink()


def test_listings_speak_json_and_plain(fs):
    rows = json.loads(fs("ls", f"{NAME}:/data", "--json").stdout)
    plain = fs("ls", f"cvmfs://{NAME}/data").stdout.split()

    assert (
        [row["shown"] for row in rows]
        == plain
        == ["just-4M", "random-200k", "text-20M", "zeros-17M"]
    )
    assert rows[0]["size"] == 4194304


def test_cat_gives_the_bytes(fs, vectors, cvm):
    command = [CVM, "fs", "cat", f"/cvmfs/{NAME}/data/random-200k", f"{NAME}:/changed"]
    where = ["--url", vectors.url, "--public-key", str(vectors.key)]
    data = subprocess.run([*command, *where], capture_output=True, check=True).stdout

    rows = expected(vectors)
    assert hashlib.sha256(data[:200_000]).hexdigest() == rows["/data/random-200k"]["sha256"]
    assert data[200_000:] == b"revision 3\n"


def test_find_and_tree_go_as_deep_as_they_are_told(fs):
    found = fs("find", NAME, "--name", "*.txt", "--type", "f", "--depth", "2").stdout.split("\n")
    assert "/misc/hello.txt" in found
    assert not any("nested" in path for path in found)
    lines = fs("tree", "--depth", "1", f"{NAME}:/").stdout.splitlines()
    assert lines == ["/", "├── changed", "├── data", "├── many", "├── misc", "└── new"]


def test_stat_names_objects_and_revision(fs):
    row = json.loads(fs("stat", f"{NAME}:/data/text-20M", "--json").stdout)

    assert (row["kind"], row["size"], row["revision"]) == ("file", 20_000_000, 3)
    assert sum(item["size_bytes"] for item in row["objects"]) == 20_000_000


def test_an_older_revision_is_listed_too(fs):
    tags = {row["name"]: row for row in json.loads(fs("tags", NAME, "--json").stdout)}

    old = fs("ls", NAME, "--root-hash", tags["first"]["root_hash"]).stdout.split()

    assert "changed" not in old
    assert "changed" in fs("ls", NAME, "--tag", "tag3").stdout.split()


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (("cat", f"{NAME}:/absent"), 12, "/absent"),
        (("cat", f"{NAME}:/data"), 11, "Is a directory"),
        (("ls", f"{NAME}:data"), 11, f"{NAME}:/PATH"),
        (("ls", f"{NAME}:/changed/x"), 11, "Not a directory"),
        (("ls", NAME, "--tag", "a", "--revision", "2"), 11, "one way"),
        (("cp", f"{NAME}:/data", "/tmp"), 11, "--recursive"),
        (("tags", "Nonsense"), 11, "repository name"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(words, status, part, fs):
    ended = fs(*words, check=False)

    assert (ended.returncode, part in ended.stderr) == (status, True), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_name_that_nobody_knows_is_told_with_the_nearest_that_is(fs, cvm):
    fs("ls", f"{NAME}:/")

    ended = cvm("fs", "ls", "vector.cernvm.test:/", check=False)

    assert ended.returncode == 12
    assert f"did you mean {NAME}?" in ended.stderr


def test_the_shell_completes_names_and_paths_without_a_server(fs, vectors, home):
    fs("ls", f"{NAME}:/misc")  # so that they are at hand

    def offered(words):
        finished = subprocess.run(
            [CVM], capture_output=True, text=True, timeout=20, check=False,
            env={
                **os.environ, "CVM_HOME": str(home.path), "_CVM_COMPLETE": "bash_complete",
                "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1),
            },
        )  # fmt: skip
        assert finished.returncode == 0, finished.stderr
        return [line.partition(",")[2] for line in finished.stdout.splitlines() if line]

    assert f"{NAME}:/misc/" in offered("cvm fs ls vec")
    assert offered(f"cvm fs ls {NAME}:/ch") == [f"{NAME}:/changed"]
    assert offered(f"cvm fs ls {NAME} : /misc/he") == ["/misc/hello.txt"]
    assert "/misc/hello.txt" in offered(f"cvm fs ls {NAME} : /misc/hell")
    below = offered(f"cvm fs ls {NAME}:/misc/")
    assert below
    assert all(path.startswith(f"{NAME}:/misc/") for path in below)
    assert offered("cvm fs tags nothing") == []
