"""`cvm repo profile`: what a command reads on a mount of its own becomes a profile of the next revision."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from cernvm.fs.format.pack_table import SMALL_BYTES
from conftest import CVM, missing

NAME = "t.cernvm.test"
TOP = f"/cvmfs/{NAME}"
SOMEBODY = 23457


@pytest.fixture
def release(tmp_path):
    noise = random.Random(7)
    root = tmp_path / "release"
    for path, size in {"a": 500, "b": 600, "c": 700, "lib/m": 800, "big": 20 << 20}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(noise.randbytes(size))
    (root / "lib/.cvmfscatalog").touch()
    (root / "middle").write_bytes(noise.randbytes(SMALL_BYTES + 1))
    (root / "name with blank \udcff").write_bytes(b"odd")
    return root


@pytest.fixture
def published(cvm, release, need_fuse, tmp_path):
    cvm("repo", "create", NAME)
    cvm("repo", "publish", NAME, release)
    yield
    assert not list(tmp_path.glob("cvm-record-*")), "the recording's folder is left"


@pytest.fixture
def record(cvm, published, tmp_path):
    """Record a shell script in a folder for temporary files that only this test uses."""

    def run(label, script, *options, check=True):
        command = ["sh", "-c", f"cd {TOP} && {script}"]
        words = ("repo", "profile", "record", NAME, label, *options, "--", *command)
        return cvm(*words, check=check, TMPDIR=str(tmp_path))

    return run


def shown(cvm, label):
    return json.loads(cvm("repo", "profile", "show", NAME, label, "--json").stdout)


def test_files_are_listed_in_the_order_in_which_they_were_first_read(cvm, record):
    done = record("start", "cat c a lib/m a c middle name* > /dev/null")

    assert "revision 2" in done.stdout
    listed = [(row["path"], row["kind"]) for row in shown(cvm, "start")]
    assert listed == [
        ("/c", "file"),
        ("/a", "file"),
        ("/lib", "catalog"),
        ("/lib/m", "file"),
        ("/middle", "file"),
        ("/name with blank \ufffd", "file"),
    ]
    assert [row["pack"] for row in shown(cvm, "start")] == [0, 0, 0, 0, "", 0]


def test_of_a_large_file_only_the_chunks_that_were_read_are_listed(cvm, record):
    record("part", "dd if=big of=/dev/null bs=1 count=1 skip=19000000 2> /dev/null")

    (row,) = shown(cvm, "part")
    assert (row["path"], row["kind"]) == ("/big", "chunk")
    assert row["offset"] <= 19_000_000 < row["offset"] + row["size"]


def test_several_profiles_live_side_by_side_and_are_replaced_and_removed_singly(cvm, record):
    record("one", "cat a > /dev/null")
    record("two", "cat b c > /dev/null", "--trigger", "1")
    record("one", "cat b > /dev/null")

    rows = json.loads(cvm("repo", "profile", "list", NAME, "--json").stdout)
    assert [(row["label"], row["files"], row["trigger"]) for row in rows] == [
        ("one", 1, 3),
        ("two", 2, 1),
    ]
    assert [row["path"] for row in shown(cvm, "one")] == ["/b"]
    cvm("repo", "profile", "remove", NAME, "one")
    assert "one" not in cvm("repo", "profile", "list", NAME).stdout
    assert "two" in cvm("repo", "profile", "list", NAME).stdout


def test_programs_that_begin_alike_are_told(record):
    record("one", "cat a > /dev/null; cat b c > /dev/null", "--trigger", "1")
    done = record("two", "cat a lib/m > /dev/null", "--trigger", "1")

    assert "two begins as one does" in done.stderr


def test_a_publication_tells_what_a_profile_lost(cvm, record, release):
    record("start", "cat a b > /dev/null")
    (release / "b").unlink()
    published = cvm("repo", "publish", NAME, release)

    assert "profile start lost 1 files (/b …)" in published.stderr
    (release / "later").touch()
    row = json.loads(cvm("repo", "publish", NAME, release, "--json").stdout)
    assert row["profiles"] == [{"label": "start", "objects": 1, "lost_paths": []}]


def test_a_command_that_fails_or_reads_nothing_publishes_nothing(cvm, record):
    for script, told in (
        ("exit 7", "ended with status 7"),
        ("kill -TERM $$", "ended by signal 15"),
        ("true", "read no file"),
    ):
        done = record("start", script, check=False)
        assert done.returncode != 0
        assert told in done.stderr
    assert json.loads(cvm("repo", "info", NAME, "--json").stdout)["revision"] == 1


def test_a_command_that_is_not_there_and_a_bad_label_are_told(cvm, published):
    done = cvm("repo", "profile", "record", NAME, "x", "--", "/nowhere/prog", check=False)
    assert "/nowhere/prog: No such file" in done.stderr
    assert "status 127" in done.stderr
    done = cvm("repo", "profile", "record", NAME, "a/b", "--", "true", check=False)
    assert "is no label" in done.stderr


def test_the_command_keeps_its_folder_streams_and_leaves_no_mount(cvm, record, tmp_path):
    done = record("start", f"cat a > {tmp_path}/copy; pwd; echo told >&2")

    assert (tmp_path / "copy").stat().st_size == 500
    assert done.stdout.startswith(TOP)
    assert "told" in done.stderr
    with open("/proc/self/mountinfo") as mounts:
        assert f" {TOP} " not in mounts.read()


def test_another_repository_may_be_shown_beside(cvm, published, release, tmp_path):
    cvm("repo", "create", "other.cernvm.test")
    cvm("repo", "publish", "other.cernvm.test", release / "lib")
    server = subprocess.Popen(
        [CVM, "repo", "serve", "--port", "0"],
        env={**os.environ, "CVM_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        server.stdout.readline()
        script = f"cat /cvmfs/other.cernvm.test/m {TOP}/a > /dev/null"
        words = ("repo", "profile", "record", NAME, "start", "--with", "other.cernvm.test")
        cvm(*words, "--", "sh", "-c", script, TMPDIR=str(tmp_path))
    finally:
        server.terminate()
        server.wait(5)
        server.stdout.close()
    assert [row["path"] for row in shown(cvm, "start")] == ["/a"]


def test_an_ordinary_user_records_too(cvm, published, home, tmp_path):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        missing("this test begins as root, with setpriv")
    for folder, folders, files in os.walk(home.path):
        for path in (folder, *(os.path.join(folder, name) for name in folders + files)):
            os.chown(path, SOMEBODY, SOMEBODY)
    for above in (tmp_path, *tmp_path.parents):
        if above.owner() == "root" and above.is_relative_to("/tmp") and str(above) != "/tmp":
            above.chmod(0o755)
    node, scratch = tmp_path / "fuse", tmp_path / "scratch"
    os.mknod(node, 0o666 | 0o20000, os.makedev(10, 229))
    node.chmod(0o666)
    scratch.mkdir()
    os.chown(scratch, SOMEBODY, SOMEBODY)
    done = subprocess.run(
        [
            "unshare", "--mount", "sh", "-c", f'mount --bind {node} /dev/fuse; exec "$@"', "sh",
            "setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups",
            CVM, "repo", "profile", "record", NAME, "start", "--", "cat", f"{TOP}/b", f"{TOP}/a",
        ],
        env={**os.environ, "CVM_HOME": str(home.path), "TMPDIR": str(scratch)},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row["path"] for row in shown(cvm, "start")] == ["/b", "/a"]


def test_an_interrupt_ends_command_and_recording(published, home, tmp_path):
    recording = subprocess.Popen(
        [
            CVM,
            "repo",
            "profile",
            "record",
            NAME,
            "start",
            "--",
            "sh",
            "-c",
            f"cat {TOP}/a > /dev/null; echo here; exec sleep 60",
        ],
        env={**os.environ, "CVM_HOME": str(home.path), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert recording.stdout.readline() == b"here\n"
        started = time.monotonic()
        os.killpg(recording.pid, signal.SIGINT)
        assert recording.wait(15) not in (0, None)
        assert time.monotonic() - started < 10
    finally:
        recording.kill()
        recording.communicate()
