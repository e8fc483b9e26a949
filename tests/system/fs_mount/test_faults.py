"""Faults of servers, processes and disks under programs that read: no wrong byte, no hang, and the mount answers."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from cernvm.core.home import Home
from cernvm.fs.mount import recorded_mounts
from conftest import CVM
from system.sick import Fault, SickServer

NAME = "sft.cernvm.test"
READER_DEADLINE_S = 3
SLACK_S = 2.0  # 1 s is promised; the other for a machine that does other things too
SET_SIZE = 12
ALL_FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)
SETS = 2 * len(ALL_FAULTS)

READER = r"""
import errno, hashlib, json, os, sys, threading, time
point, threads, until = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
wanted = json.load(sys.stdin)
told = {"read": 0, "wrong": [], "worst_s": 0.0, "errors": {}}
lock, left = threading.Lock(), list(wanted.items())

def timed(action, *arguments):
    begin = time.monotonic()
    try:
        return action(*arguments)
    finally:
        with lock:
            told["worst_s"] = max(told["worst_s"], time.monotonic() - begin)

def read(name, expected):
    file = timed(os.open, f"{point}/{name}", os.O_RDONLY)
    try:
        got = hashlib.sha256()
        while part := timed(os.read, file, 1 << 17):
            got.update(part)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)
    if got.hexdigest() != expected:
        told["wrong"].append(name)
    told["read"] += 1

def work():
    while True:
        with lock:
            if not left and time.monotonic() < until:
                left.extend(wanted.items())
            if not left:
                return
            name, expected = left.pop()
        try:
            read(name, expected)
        except OSError as error:
            with lock:
                word = errno.errorcode[error.errno]
                told["errors"][word] = told["errors"].get(word, 0) + 1

workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The home of a published repository, and the digest of each of its files by set."""
    folder = tmp_path_factory.mktemp("published")
    tree, digests = folder / "tree", {}
    for number in range(SETS):
        inside = tree / f"s{number:02}"
        inside.mkdir(parents=True)
        (inside / ".cvmfscatalog").touch()
        for index in range(SET_SIZE):
            data = os.urandom(1000 * 3**index // 3 if index < 8 else 20_000)
            (inside / f"f{index:02}").write_bytes(data)
            digests.setdefault(number, {})[f"s{number:02}/f{index:02}"] = hashlib.sha256(
                data
            ).hexdigest()
    home = Home(folder / "home")
    for words in (["create", NAME], ["publish", NAME, str(tree)]):
        subprocess.run(
            [CVM, "repo", *words],
            env={**os.environ, "CVM_HOME": str(home.path)},
            check=True,
            capture_output=True,
        )
    return home, digests


@pytest.fixture
def sick(repository):
    with SickServer(repository[0].storage / NAME) as server:
        yield server


@pytest.fixture
def well(repository):
    with SickServer(repository[0].storage / NAME) as server:
        yield server


@pytest.fixture
def mounted(cvm, point, repository):
    """Mount from these servers in turn."""

    def mount(*servers, options=()):
        cvm(
            "mount", NAME, point, "--url", ";".join(server.url for server in servers),
            "--public-key", repository[0].keys / f"{NAME}.pub",
            "--reader-deadline", READER_DEADLINE_S, *options,
        )  # fmt: skip

    yield mount
    cvm("umount", "--force", point, check=False)


@pytest.fixture
def workload(point, repository):
    """Start a program that reads sets of files, again and again for some `seconds`; gives what waits for its end."""
    started = []

    def start(*sets, threads=6, seconds=0.0):
        wanted = {name: digest for number in sets for name, digest in repository[1][number].items()}
        process = subprocess.Popen(
            [sys.executable, "-c", READER, point, str(threads), str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        process.stdin.write(json.dumps(wanted))
        process.stdin.close()
        process.stdin = None
        started.append(process)
        return lambda: json.loads(process.communicate(timeout=90)[0])

    yield start
    for process in started:
        process.kill()
        process.wait(10)


@pytest.fixture
def watched(point, cvm):
    """The longest time that each question about the mount took while the block ran."""

    class Watch:
        def __enter__(self):
            self.worst_s, self._over = {}, threading.Event()
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
            return self.worst_s

        def __exit__(self, *_):
            self._over.set()
            self._thread.join(20)

        def _look(self):
            questions = {
                "df": lambda: os.statvfs(point),
                "stat": lambda: os.stat(point),
                "ls": lambda: [entry.stat() for entry in os.scandir(point.parent)],
            }
            while True:
                for name, ask in questions.items():
                    begin = time.monotonic()
                    ask()
                    took_s = time.monotonic() - begin
                    self.worst_s[name] = max(self.worst_s.get(name, 0.0), took_s)
                if self._over.wait(0.1):
                    return

    return Watch


def assert_sound(told, worst_s):
    assert told["wrong"] == []
    assert set(told["errors"]) <= {"EIO"}
    assert told["worst_s"] < READER_DEADLINE_S + SLACK_S
    assert max(worst_s.values()) < 1


def why(cvm, path, **settings):
    begin = time.monotonic()
    told = cvm("why", path, **settings)
    assert time.monotonic() - begin < 2.5  # 2 s are promised on a machine that does nothing else
    return told.stdout


def report(name, told):
    print(f"| {name} | {told['worst_s']:.2f} s | {told['read']} | {sum(told['errors'].values())} |")


QUICK = (Fault.HOLE,)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=() if f in QUICK else pytest.mark.soak) for f in ALL_FAULTS],
    ids=lambda fault: fault.value,
)
def test_one_fault_costs_readers_a_bounded_time(
    fault, sick, well, mounted, workload, watched, cvm, point
):
    if fault not in QUICK and not os.environ.get("CVM_SOAK"):
        pytest.skip("one of many; in `make soak`")
    mounted(sick, well)
    first = 2 * ALL_FAULTS.index(fault)
    sick.fall_ill(fault)
    with watched() as worst_s:
        told = workload(first)()
    report(f"{fault.value}, beside a good server", told)
    assert_sound(told, worst_s)
    assert told["read"] == SET_SIZE

    well.fall_ill(Fault.DEAD)
    cvm("remount", point, check=False)
    with watched() as worst_s:
        read = workload(first + 1)
        time.sleep(0.3)
        shown = why(cvm, point / f"s{first + 1:02}/f03")
        told = read()
    report(f"{fault.value}, alone", told)
    assert_sound(told, worst_s)
    assert sick.url in shown

    begin = time.monotonic()
    cvm("umount", point)
    assert time.monotonic() - begin < 2.5


def test_faults_of_all_kinds_at_once_let_nothing_wrong_through(
    sick, well, mounted, workload, watched, cvm, point, seeded
):
    """Two bad servers, each of whose requests meets one of the faults or none, by the seed."""
    mounted(sick, well)
    sick.fall_ill(*(fault for fault in ALL_FAULTS if fault is not Fault.DEAD), share=0.5)
    well.fall_ill(Fault.FLIP, Fault.CUT, Fault.ERROR, Fault.WRONG, share=0.3)
    with watched() as worst_s:
        read = workload(*seeded.sample(range(SETS), 4))
        time.sleep(0.5)
        why(cvm, point / "s00/f03")
        told = read()
    report("all at once", told)
    assert_sound(told, worst_s)
    assert told["read"] > 0

    sick.heal()
    well.heal()
    assert workload(*range(4))()["read"] == 4 * SET_SIZE


@pytest.mark.parametrize("fault", [Fault.HOLE, Fault.FLIP])
def test_a_bad_proxy_costs_time_and_nothing_else(
    fault, sick, well, repository, cvm, point, workload, watched
):
    cvm(
        "mount", NAME, point, "--url", well.url, "--proxy", f"{sick.url};DIRECT",
        "--public-key", repository[0].keys / f"{NAME}.pub", "--reader-deadline", READER_DEADLINE_S,
    )  # fmt: skip
    try:
        sick.fall_ill(fault)
        with watched() as worst_s:
            told = workload(3)()
        report(f"proxy: {fault.value}", told)
        assert_sound(told, worst_s)
        assert told["read"] == SET_SIZE
    finally:
        cvm("umount", "--force", point, check=False)


def kill_client(home, *, after_s):
    """Kill whoever serves, once that one has served for a while: a holder gives up one that always dies at once."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        (record,) = recorded_mounts(home.run)
        if record.process.is_alive:
            time.sleep(after_s)
            if record.process.is_alive:  # and not the one before, which was still ending
                os.kill(record.process.pid, signal.SIGKILL)
                return
        time.sleep(0.02)
    pytest.fail("nobody came to serve")


@pytest.mark.soak
def test_killed_clients_under_servers_that_fail(
    sick, well, mounted, workload, watched, home, point, count, seeded
):
    mounted(sick, well)
    sick.fall_ill(*(fault for fault in ALL_FAULTS if fault is not Fault.DEAD), share=0.2)
    told, kills = [], count(200, 20)
    with watched() as worst_s:
        for number in range(kills):
            if number % 10 == 0:
                read = workload(*seeded.sample(range(SETS), 4), seconds=4)
            kill_client(home, after_s=seeded.uniform(0.26, 0.4))
            if number % 10 == 9:
                told.append(read())
    for one in told:
        report("killed clients", one)
        assert one["wrong"] == []
        assert set(one["errors"]) <= {"EIO"}
        assert one["worst_s"] < 2 * READER_DEADLINE_S + SLACK_S  # its time begins anew
    assert sum(one["read"] for one in told) > 0
    assert max(worst_s.values()) < READER_DEADLINE_S + SLACK_S  # who asks waits for the next client
    sick.heal()
    assert workload(5)()["read"] == SET_SIZE


def damage_index(cache):
    for path in cache.glob("index*"):
        with path.open("r+b") as file:
            size = path.stat().st_size
            for at in range(0, size, 512):
                file.seek(at)
                file.write(b"\xde\xad\xbe\xef" * 16)


def remove(cache):
    shutil.rmtree(cache, ignore_errors=True)  # which the client makes anew meanwhile


def truncate_content(cache):
    """Cut every second file of content short."""
    for path in sorted(cache.glob("[0-9a-f][0-9a-f]/*"))[::2]:
        os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [damage_index, remove, truncate_content])
def test_a_cache_that_is_harmed_while_programs_read(
    harm, well, mounted, workload, watched, cvm, home, point
):
    mounted(well)
    assert workload(0)()["read"] == SET_SIZE
    with watched() as worst_s:
        read = workload(*range(6), threads=2)
        harm(home.cache)
        shown = why(cvm, point / "s01/f03")
        told = read()
        again = workload(0, 7)()
    report(harm.__name__, told)
    for one in (told, again):
        assert_sound(one, worst_s)
    assert again["read"] == 2 * SET_SIZE
    assert "hosts" in shown


def test_a_cache_whose_disk_is_full_while_programs_read(
    well, mounted, workload, watched, cvm, point, tmp_path
):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], check=True)
    try:
        mounted(well, options=("--cache", small / "cache"))
        with watched() as worst_s:
            read = workload(*range(8))
            with open(small / "ballast", "wb", buffering=0) as ballast:
                try:
                    while True:
                        ballast.write(bytes(4096))
                except OSError:
                    pass
            why(cvm, point / "s01/f03")
            told = read()
        report("full disk", told)
        assert_sound(told, worst_s)

        (small / "ballast").unlink()
        assert workload(9)()["read"] == SET_SIZE
    finally:
        cvm("umount", "--force", point, check=False)
        subprocess.run(["umount", "-l", small], check=True)


@pytest.mark.soak
def test_killed_cleaners_while_programs_read(
    well, mounted, workload, watched, cvm, home, count, seeded
):
    mounted(well)
    told = []
    with watched() as worst_s:
        for number in range(count(200, 20)):
            if number % 10 == 0:
                read = workload(*seeded.sample(range(SETS), 8), threads=2, seconds=3)
            cleaner = subprocess.Popen(
                [CVM, "cache", "clean", "--to-mb", "0"],
                env={**os.environ, "CVM_HOME": str(home.path)},
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            time.sleep(seeded.uniform(0.2, 0.6))
            cleaner.kill()
            cleaner.wait(10)
            if number % 10 == 9:
                told.append(read())
    for one in told:
        assert_sound(one, worst_s)
        assert one["errors"] == {}
    cvm("cache", "check")
