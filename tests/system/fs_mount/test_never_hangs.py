"""Whatever the servers do: what is at hand is answered at once, and the rest within the readers' deadline."""

import errno
import os
import signal
import subprocess
import threading
import time

import pytest

from cernvm.core.home import Home
from conftest import CVM

NAME = "sft.cernvm.test"
READER_DEADLINE_S = 6
ENOUGH_TO_STARVE = 40  # more than a mount's threads


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The data folder of a repository of many nested catalogs."""
    folder = tmp_path_factory.mktemp("published")
    tree = folder / "tree"
    for number in range(ENOUGH_TO_STARVE + 1):
        inside = tree / f"d{number:03}"
        inside.mkdir(parents=True)
        (inside / "file").write_bytes(os.urandom(300_000))
        (inside / ".cvmfscatalog").touch()
    for number in range(600):
        (tree / "wide" / f"{number:03}").mkdir(parents=True)
    (tree / "near").write_text("near")
    home = Home(folder / "home")
    for words in (["create", NAME], ["publish", NAME, str(tree)]):
        subprocess.run(
            [CVM, "repo", *words],
            env={**os.environ, "CVM_HOME": str(home.path)},
            check=True,
            capture_output=True,
        )
    return home


@pytest.fixture
def frozen(cvm, point, published, vectors):
    """A mount whose server takes connections and never answers, with a few files read before."""
    (vectors.tree / "cvmfs").symlink_to(published.storage)
    cvm(
        "mount", NAME, point, "--url", f"{vectors.url}/cvmfs/{NAME}",
        "--public-key", published.keys / f"{NAME}.pub",
        "--reader-deadline", READER_DEADLINE_S, "--read-ahead", "off",
    )  # fmt: skip
    assert (point / "near").read_text() == "near"
    os.listdir(point)
    group = [vectors.server.pid, *children(vectors.server.pid)]
    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    yield point
    for pid in group:
        os.kill(pid, signal.SIGCONT)
    cvm("umount", "--force", point, check=False)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def error_of(path):
    """The errno with which reading a file ends, 0 if it does not."""
    try:
        path.read_bytes()
    except OSError as error:
        return error.errno
    return 0


def took(action):
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


@pytest.fixture
def stuck(frozen):
    """As many readers as there are folders, each waiting for the server; gives (errno, seconds) of each at its end."""
    ended, threads = [], []

    def read(number):
        begin = time.monotonic()
        outcome = error_of(frozen / f"d{number:03}" / "file")
        ended.append((outcome, time.monotonic() - begin))

    for number in range(ENOUGH_TO_STARVE):
        threads.append(threading.Thread(target=read, args=(number,), daemon=True))
        threads[-1].start()
    time.sleep(0.7)

    def join():
        for thread in threads:
            thread.join(5 * READER_DEADLINE_S)
        return ended

    yield join
    join()


def test_what_is_at_hand_is_answered_while_everything_else_waits(frozen, stuck, cvm):
    looking = threading.Thread(target=cvm, args=("remount", frozen), kwargs={"check": False})
    looking.start()  # for a new revision, of a server that says nothing
    killed = subprocess.Popen(
        ["cat", frozen / f"d{ENOUGH_TO_STARVE:03}/file"], stderr=subprocess.DEVNULL
    )
    time.sleep(0.5)
    killed.kill()

    assert took(lambda: killed.wait(3)) < 1.5
    assert took(lambda: os.statvfs(frozen)) < 1
    assert took(lambda: os.listdir(frozen)) < 1
    assert took(lambda: os.stat(frozen)) < 1
    assert took((frozen / "near").read_bytes) < 1
    assert (
        took(lambda: os.listdir(frozen / "wide")) < 2
    )  # too long a list for the loop: a thread's work
    assert took(lambda: subprocess.run(["df", frozen], check=True, capture_output=True)) < 1

    ended = stuck()
    assert len(ended) == ENOUGH_TO_STARVE
    assert {outcome for outcome, _ in ended} == {errno.EIO}
    assert max(seconds for _, seconds in ended) < READER_DEADLINE_S + 2.5
    looking.join(70)
    assert not looking.is_alive()


def test_a_mount_is_unmounted_while_everything_waits(frozen, stuck, cvm):
    begin = time.monotonic()
    cvm("umount", "--force", frozen)

    assert time.monotonic() - begin < 4  # the command's own start, on a busy machine, included
    assert len(stuck()) == ENOUGH_TO_STARVE


def test_a_process_is_replaced_while_everything_waits(frozen, stuck, cvm):
    begin = time.monotonic()
    cvm("remount", "--reload", frozen, "--json")

    assert time.monotonic() - begin < 15
    assert took((frozen / "near").read_bytes) < 1
    assert {outcome for outcome, _ in stuck()} == {errno.EIO}


def test_a_cache_folder_that_vanishes_costs_no_hang(vectors, mount, point, home, cvm):
    mount(vectors, "--reader-deadline", "5")
    content = (point / "changed").read_bytes()
    subprocess.run(["rm", "-rf", home.cache], check=True)

    def read_all():
        assert {error_of(point / name) for name in ("changed", "data/just-4M")} <= {0, errno.EIO}

    assert took(read_all) < 12
    assert took(lambda: os.statvfs(point)) < 1
    assert took(lambda: os.listdir(point)) < 1
    assert content
    begin = time.monotonic()
    cvm("umount", point)
    assert time.monotonic() - begin < 5


def test_a_full_disk_costs_no_hang(vectors, point, home, cvm, tmp_path):
    full = tmp_path / "small"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", full], check=True)
    try:
        cvm(
            "mount", vectors.name, point, "--url", vectors.url, "--public-key", vectors.key,
            "--cache", full / "cache", "--reader-deadline", "5",
        )  # fmt: skip
        try:
            with open(full / "ballast", "wb") as ballast:
                while True:
                    ballast.write(b"\0" * 4096)
                    ballast.flush()
        except OSError:
            pass

        def read():
            assert error_of(point / "data/just-4M") in (0, errno.EIO)

        assert took(read) < 8
        assert took(lambda: os.statvfs(point)) < 1
        assert took(lambda: os.listdir(point)) < 1
    finally:
        cvm("umount", "--force", point, check=False)
        subprocess.run(["umount", "-l", full], check=True)
