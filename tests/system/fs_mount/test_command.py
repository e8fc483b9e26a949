"""`cvm mount`, `cvm umount` and their errors, as a person meets them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cernvm.fs.fuse import mount_at


def wait_until(condition, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def lives(pid):
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def test_a_mount_is_listed_until_it_is_unmounted(vectors, mount, point, cvm, home):
    mount(vectors)

    (row,) = json.loads(cvm("mount", "--json").stdout)
    assert (row["repository"], row["mountpoint"]) == ("vectors.cernvm.test", str(point))
    assert (row["state"], row["revision"]) == ("mounted", 3)

    cvm("umount", point)
    assert json.loads(cvm("mount", "--json").stdout) == []
    assert mount_at(point) is None
    assert not lives(row["pid"])
    assert list((home.run / "mounts").iterdir()) == []


def test_the_errors_of_the_background_process_are_those_of_the_command(
    vectors, mount, point, cvm, tmp_path
):
    wrong_key = tmp_path / "wrong.pub"
    wrong_key.write_bytes(
        subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True).stdout
    )
    public = subprocess.run(
        ["openssl", "rsa", "-pubout", "-in", wrong_key], capture_output=True, check=True
    ).stdout
    wrong_key.write_bytes(public)

    refused = cvm(
        "mount", vectors.name, point, "--url", vectors.url, "--public-key", wrong_key, check=False
    )
    no_key = cvm("mount", vectors.name, point, "--url", vectors.url, check=False)
    no_folder = cvm(
        "mount", vectors.name, tmp_path / "absent", "--url", vectors.url,
        "--public-key", vectors.key, check=False,
    )  # fmt: skip
    no_server = cvm("mount", vectors.name, point, check=False)
    vectors.stop()
    gone = mount(vectors, "--cache", tmp_path / "empty", check=False)

    assert refused.returncode == 20, refused.stderr
    assert (no_key.returncode, no_folder.returncode, no_server.returncode) == (12, 12, 12)
    assert "--public-key" in no_key.stderr
    assert "mkdir -p" in no_folder.stderr
    assert "--url" in no_server.stderr
    assert gone.returncode == 30, gone.stderr
    for finished in (refused, no_key, no_folder, no_server, gone):
        assert "Traceback" not in finished.stderr
        assert len(finished.stderr.splitlines()) <= 2
    assert mount_at(point) is None


def test_a_mount_that_no_server_confirmed_says_so(vectors, mount, cvm, point):
    confirmed = mount(vectors)
    cvm("umount", point)
    vectors.stop()

    offline = mount(vectors)

    assert "no server" not in confirmed.stderr
    assert "revision 3" in offline.stdout
    assert "no server told of a newer revision" in offline.stderr
    assert vectors.url in offline.stderr


@pytest.mark.parametrize("content", [b"no key\n", b"\0" * 70_000])
def test_a_file_that_is_no_key_is_named(content, vectors, point, cvm, tmp_path):
    wrong = tmp_path / "notes.txt"
    wrong.write_bytes(content)

    ended = cvm(
        *("mount", vectors.name, point, "--url", vectors.url, "--public-key", wrong), check=False
    )

    assert ended.returncode == 11
    assert f"{wrong} is no public key" in ended.stderr


def test_a_place_that_is_taken_is_refused(vectors, mount, point):
    mount(vectors)

    again = mount(vectors, check=False)

    assert again.returncode == 13
    assert f"cvm umount {point}" in again.stderr


def test_a_busy_mount_stays_unless_forced(vectors, mount, point, cvm):
    mount(vectors)

    with (point / "changed").open():
        busy = cvm("umount", point, check=False)
        assert (busy.returncode, "in use" in busy.stderr) == (30, True)
        assert (point / "data/just-4M").stat().st_size == 4194304
        cvm("umount", "--force", point)

    assert mount_at(point) is None
    nothing = cvm("umount", point, check=False)
    assert nothing.returncode == 12


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_mount_in_the_foreground_ends_cleanly_when_asked(vectors, point, home, number):
    command = [os.path.join(os.path.dirname(sys.executable), "cvm"), "mount", vectors.name, point]
    process = subprocess.Popen(
        [*command, "--url", vectors.url, "--public-key", vectors.key, "--foreground"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )
    assert process.stdout.readline() == f"mounted vectors.cernvm.test at {point}, revision 3\n"
    held = os.open(point / "data/text-20M", os.O_RDONLY)

    process.send_signal(number)

    assert process.wait(5) == 130
    process.stdout.close()
    assert mount_at(point) is None
    assert list((home.run / "mounts").iterdir()) == []
    with pytest.raises(OSError):
        os.read(held, 1)
    with pytest.raises(OSError):
        os.close(held)


def test_a_killed_mount_gives_readers_errors_and_the_next_one_succeeds(
    vectors, mount, point, cvm, count
):
    for _ in range(max(2, count(10))):
        mount(vectors, "--no-holder")
        (row,) = json.loads(cvm("mount", "--json").stdout)
        reader = subprocess.Popen(
            [
                "sh",
                "-c",
                f"while cat {point}/*/random* >/dev/null; do :; done",
            ],
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.1)

        os.kill(row["pid"], signal.SIGKILL)

        reader.wait(10)  # it reads on until it gets an error
        (dead,) = json.loads(cvm("mount", "--json").stdout)
        assert dead["state"] == "dead"
        why = cvm("why", point / "changed", check=False)
        assert (why.returncode, "is gone" in why.stderr) == (30, True)

    mount(vectors)
    assert (point / "changed").read_bytes()


def test_a_dead_mount_is_unmounted_like_a_live_one(vectors, mount, point, cvm):
    mount(vectors, "--no-holder")
    (row,) = json.loads(cvm("mount", "--json").stdout)
    os.kill(row["pid"], signal.SIGKILL)
    assert wait_until(lambda: not lives(row["pid"]))

    cvm("umount", point)

    assert mount_at(point) is None
    assert json.loads(cvm("mount", "--json").stdout) == []


def test_a_bind_mount_of_a_repository_is_explained_too(vectors, mount, point, cvm, tmp_path):
    mount(vectors)
    bound = tmp_path / "bound"
    bound.mkdir()
    link = tmp_path / "link"
    link.symlink_to(bound)
    subprocess.run(["mount", "--bind", point / "data", bound], check=True)
    try:
        answer = json.loads(cvm("why", link / "just-4M", "--json").stdout)
    finally:
        subprocess.run(["umount", bound], check=True)

    assert (answer["path"], answer["repository"]) == ("/data/just-4M", "vectors.cernvm.test")


def test_a_path_outside_of_every_mount_is_named(cvm, tmp_path):
    finished = cvm("why", tmp_path / "x", check=False)

    assert finished.returncode == 12
    assert "mounted repository" in finished.stderr
