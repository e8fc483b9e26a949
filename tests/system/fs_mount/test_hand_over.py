"""The process that serves a mount dies, or is replaced: readers wait a moment and get no error and no wrong byte."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cernvm.core.process import describe_process
from cernvm.fs.fuse import mount_at
from cernvm.fs.mount import ask, recorded_mounts

LIMIT_S = 30  # on a busy machine; none of them waits for a time-out

READER = r"""
import hashlib, json, os, random, sys
point, seed, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
expected = json.load(sys.stdin)
names, chance, rounds = sorted(expected), random.Random(seed), 0
held = {name: open(f"{point}/{name}", "rb") for name in names[:3]}
while not os.path.exists(stop):
    name = chance.choice(names)
    file = held.get(name) or open(f"{point}/{name}", "rb", buffering=0)
    file.seek(0)
    data = b""
    while part := file.read(70_000):
        data += part
    assert hashlib.sha256(data).hexdigest() == expected[name], name
    os.stat(f"{point}/{name}")
    os.statvfs(point)
    if chance.random() < 0.2:
        assert os.listdir(f"{point}/{os.path.dirname(name)}")
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if chance.random() < 0.1:
        assert not os.path.exists(f"{point}/no-{chance.random()}")
    rounds += 1
print(rounds)
"""


@pytest.fixture
def record(home):
    """What is recorded of the one mount, now."""

    def read():
        (found,) = recorded_mounts(home.run)
        return found

    return read


@pytest.fixture
def readers(point, tmp_path, vectors):
    """Start programs that read at random and compare every byte; `end` waits for them and tells how often they did."""
    files = ("changed", "data/just-4M", "data/text-20M", "data/random-100k")
    started, stop = [], tmp_path / "stop"

    def start(number):
        expected = {
            name: hashlib.sha256((point / name).read_bytes()).hexdigest()
            for name in files
            if (point / name).exists()
        }
        for seed in range(number):
            process = subprocess.Popen(
                [sys.executable, "-c", READER, point, str(seed), stop],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            process.stdin.write(json.dumps(expected))
            process.stdin.close()
            process.stdin = None
            started.append(process)

    def end():
        stop.touch()
        outcomes = [process.communicate(timeout=LIMIT_S) for process in started]
        assert [process.returncode for process in started] == [0] * len(started), outcomes
        return [int(out) for out, _ in outcomes]

    start.end = end
    yield start
    stop.touch()
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def eventually(condition, *, limit_s=LIMIT_S):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {limit_s} s")


def status(record):
    return ask(record().socket, {"ask": "status"}, deadline_s=2)


def is_served(record, *, by_other_than):
    """Whether another process than that one answers questions."""

    def look():
        if record().process.pid == by_other_than:
            return False
        try:
            return status(record)
        except Exception:  # it is about to listen
            return False

    return look


def settle(record, killed):
    return eventually(is_served(record, by_other_than=killed))


@pytest.mark.soak
@pytest.mark.parametrize("kernel", ["--resend", "--no-resend"])
def test_a_killed_process_costs_readers_a_moment_and_no_error(
    vectors, mount, record, readers, count, seeded, kernel
):
    mount(vectors, kernel)
    readers(3)
    for _ in range(count(100, 20)):
        time.sleep(seeded.uniform(0.02, 1.0))
        pid = record().process.pid
        os.kill(pid, signal.SIGKILL)
        settle(record, pid)

    assert min(readers.end()) > 0


def test_a_process_is_replaced_under_its_readers(vectors, mount, record, readers, cvm, point):
    mount(vectors)
    readers(2)
    held = (point / "changed").open("rb")
    inode = os.fstat(held.fileno()).st_ino

    for generation in (2, 3, 4):
        row = json.loads(cvm("remount", "--reload", point, "--json").stdout)
        assert row["generation"] == generation
        assert row["pid"] == record().process.pid
        opened = [os.readlink(entry) for entry in Path(f"/proc/{row['pid']}/fd").iterdir()]
        assert opened.count("/dev/fuse") == 1, "else its closing would not end the mount"

    assert os.fstat(held.fileno()).st_ino == inode
    assert held.read() == (point / "changed").read_bytes()
    held.close()
    assert min(readers.end()) > 0


def test_what_was_never_in_hand_is_found_again_by_its_inode(vectors, mount, record, point):
    """A directory that is somebody's place, and a file opened before: the kernel names them by inode only."""
    mount(vectors)
    folder = os.open(point / "data", os.O_RDONLY)
    file = os.open(point / "data/just-4M", os.O_RDONLY)
    first = os.pread(file, 4096, 0)
    pid = record().process.pid
    os.kill(pid, signal.SIGKILL)
    settle(record, pid)

    assert os.pread(file, 4096, 0) == first
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    assert len(os.pread(file, 65536, 2_000_000)) == 65536
    assert os.stat("just-4M", dir_fd=folder).st_size == os.fstat(file).st_size
    assert "just-4M" in os.listdir(folder)
    os.close(file)
    os.close(folder)


def test_without_servers_the_next_process_serves_what_is_cached(vectors, mount, record, point):
    mount(vectors)
    content = (point / "changed").read_bytes()
    time.sleep(1.5)  # small content is written to the disk behind its readers
    vectors.stop()
    pid = record().process.pid

    os.kill(pid, signal.SIGKILL)

    begin = time.monotonic()
    assert (point / "changed").read_bytes() == content
    assert time.monotonic() - begin < 5
    settle(record, pid)


def test_a_holder_that_dies_is_replaced_and_the_mount_goes_on(vectors, mount, record, point):
    mount(vectors)
    served, first = record().process, record().holder
    os.kill(first.pid, signal.SIGKILL)

    second = eventually(lambda: record().holder if record().holder != first else None)

    assert second.is_alive
    assert record().process == served
    assert (point / "changed").read_bytes()
    os.kill(served.pid, signal.SIGKILL)
    assert (point / "changed").read_bytes()
    settle(record, served.pid)


def test_with_both_dead_readers_get_errors_and_the_next_mount_heals(
    vectors, mount, record, point, cvm
):
    mount(vectors)
    (point / "changed").read_bytes()
    os.kill(record().holder.pid, signal.SIGSTOP)  # so that it cannot be replaced in between
    os.kill(record().process.pid, signal.SIGKILL)
    os.kill(record().holder.pid, signal.SIGKILL)

    def failure():
        try:
            os.stat(point / "data/just-4M")
        except OSError as error:
            return error.errno

    assert eventually(failure, limit_s=3) in (errno.ENOTCONN, errno.ECONNABORTED)
    assert json.loads(cvm("mount", "--json").stdout)[0]["state"] == "dead"
    mount(vectors)
    assert (point / "changed").read_bytes()


def test_without_a_successor_the_holder_gives_up_and_readers_get_an_error(
    vectors, mount, record, point, cvm, home
):
    mount(vectors)
    (point / "changed").read_bytes()
    holder = record().holder
    vectors.stop()
    home.cache.rename(home.cache.with_name("lost"))
    home.cache.write_text("not a folder: nobody can start")
    os.kill(record().process.pid, signal.SIGKILL)

    begin = time.monotonic()
    with pytest.raises(OSError) as caught:
        os.stat(point / "no-such-name")

    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    assert time.monotonic() - begin < 13
    assert eventually(lambda: not holder.is_alive)
    cvm("umount", point)
    assert mount_at(point) is None


def test_unmounting_ends_all_processes(vectors, mount, record, point, cvm):
    mount(vectors)
    first = record()
    cvm("umount", point)

    assert not first.process.is_alive
    assert eventually(lambda: not first.holder.is_alive, limit_s=2)
    assert mount_at(point) is None


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_mount_is_unmounted_while_nobody_serves_it(vectors, mount, record, point, cvm, force):
    mount(vectors)
    first = record()
    os.kill(first.process.pid, signal.SIGKILL)

    cvm("umount", *force, point)

    assert mount_at(point) is None
    assert eventually(lambda: not first.holder.is_alive, limit_s=2)
    assert eventually(lambda: not served_by(first), limit_s=5) is True
    assert json.loads(cvm("mount", "--json").stdout) == []


def served_by(record):
    """Processes that have the mount's /dev/fuse open, by their files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        home = str(record.socket.parents[2]).encode()
        if b"--take-over" in command and b"CVM_HOME=" + home in environment:
            found.append(process.name)
    return found


def test_a_successor_that_cannot_start_leaves_the_mount_as_it_was(vectors, mount, record, point):
    mount(vectors)
    before = record().process

    answer = None
    try:
        ask(record().socket, {"ask": "reload", "command": ["/bin/false"]}, deadline_s=20)
    except Exception as error:
        answer = str(error)

    assert "could not start" in answer
    assert record().process == before
    assert (point / "changed").read_bytes()


def test_the_holder_is_small(vectors, mount, record):
    mount(vectors)
    status_of = Path(f"/proc/{record().holder.pid}/status").read_text()
    anonymous_kb = int(status_of.split("RssAnon:")[1].split()[0])

    assert anonymous_kb < 6000


def test_signals_to_the_holder_do_not_end_a_mount_that_is_served(vectors, mount, record, point):
    mount(vectors)
    holder = record().holder
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(holder.pid, number)
    time.sleep(0.2)

    assert holder.is_alive
    assert (point / "changed").read_bytes()


def test_an_ordinary_process_has_no_holder_when_not_wanted(vectors, mount, record, cvm, point):
    mount(vectors, "--no-holder")

    assert record().holder is None
    refused = cvm("remount", "--reload", point, check=False)
    assert "no holder" in refused.stderr


def test_a_request_that_waits_is_answered_by_the_next_process(
    vectors, mount, record, point, tmp_path
):
    """It was read by the process that dies, and waits for a server that answers only later."""
    mount(vectors, "--reader-deadline", "20")
    os.listdir(point / "data")
    os.kill(vectors.server.pid, signal.SIGSTOP)
    reader = subprocess.Popen(["sha256sum", point / "data/just-4M"], stdout=subprocess.PIPE)
    time.sleep(0.5)
    pid = record().process.pid
    os.kill(pid, signal.SIGKILL)
    settle(record, pid)
    os.kill(vectors.server.pid, signal.SIGCONT)

    out, _ = reader.communicate(timeout=20)
    expected = hashlib.sha256((point / "data/just-4M").read_bytes()).hexdigest()
    assert out.decode().split()[0] == expected


def test_a_record_tells_a_holder_from_a_later_process_of_its_id(vectors, mount, record):
    mount(vectors)

    assert record().holder == describe_process(record().holder.pid, "holder")
