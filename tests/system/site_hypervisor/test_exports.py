"""The repositories a site keeps mounted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from cernvm.core.errors import DeadlineError, NotFoundError, UnavailableError
from cernvm.site import exports
from cernvm.site.config import Export
from cernvm.site.exports import RepositoryMounts
from conftest import missing
from system.site_hypervisor.roots import eventually

pytestmark = pytest.mark.anyio  # for the async ones
FAKE = (sys.executable, str(Path(__file__).with_name("fake_cvm.py")))
NAME = "sft.cernvm.test"


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("software")
    return tmp_path / "tree"


@pytest.fixture
def mounts(home):
    """The mounts of a site whose repository is at a url."""
    if os.geteuid() != 0:
        missing("mounting needs root here, or a user namespace")

    def make(url):
        return RepositoryMounts(
            [Export(NAME, str(url), Path("key.pub"))],
            folder=home.site / "cvmfs",
            cache=home.cache,
            log_folder=home.log,
            command=FAKE,
        )

    return make


def starts(tree):
    """Process ids of all children that served a tree."""
    file = Path(f"{tree}.starts")
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def test_a_repository_is_mounted_when_needed_once_and_unmounted_at_the_end(mounts, tree):
    async with mounts(tree) as repositories:
        assert starts(tree) == []
        first = await repositories.mounted(NAME)
        again = await repositories.mounted(NAME)
        assert (first.path / "file").read_text() == "software"

    assert first == again
    assert first.generation == 1
    assert len(starts(tree)) == 1
    assert not (first.path / "file").exists()


async def test_many_who_need_it_at_once_get_one_mount(mounts, tree):
    async with mounts(tree) as repositories, anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(repositories.mounted, NAME)

    assert len(starts(tree)) == 1


async def test_a_dead_mount_is_mounted_again_as_the_next_generation(mounts, tree, caplog):
    async with mounts(tree) as repositories:
        first = await repositories.mounted(NAME)
        os.kill(starts(tree)[0], signal.SIGKILL)

        async def is_back():
            return len(starts(tree)) == 2 and (await repositories.mounted(NAME)).generation == 2

        await eventually(is_back)
        assert (first.path / "file").read_text() == "software"
        assert _mounts_at(first.path) == 1

    assert "repository.lost" in caplog.text


async def test_a_mount_that_cannot_come_back_yet_is_tried_until_it_does(mounts, tree, monkeypatch):
    monkeypatch.setattr(exports, "_FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(exports, "_LONGEST_WAIT_S", 0.1)
    async with mounts(tree) as repositories:
        first = await repositories.mounted(NAME)
        os.mkdir(f"{tree}.broken")
        os.kill(starts(tree)[0], signal.SIGKILL)

        async def was_tried():
            return len(starts(tree)) >= 3

        await eventually(was_tried, 10)
        with pytest.raises(UnavailableError, match="not now"):
            await repositories.mounted(NAME)
        os.rmdir(f"{tree}.broken")

        async def is_back():
            return _mounts_at(first.path) == 1

        await eventually(is_back, 10)


async def test_what_cannot_be_mounted_says_so_in_its_own_words(mounts):
    async with mounts("refused:") as repositories:
        with pytest.raises(
            UnavailableError, match="the whitelist of sft.cernvm.test expired"
        ) as caught:
            await repositories.mounted(NAME)

    assert caught.value.advice == "ask its owner to sign it anew"


async def test_many_who_ask_for_what_just_failed_start_one_child(mounts, tree, monkeypatch):
    monkeypatch.setattr(exports, "backoff_s", lambda **_: iter([60.0]))
    os.mkdir(f"{tree}.broken")
    async with mounts(tree) as repositories:
        for _ in range(5):
            with pytest.raises(UnavailableError, match="not now"):
                await repositories.mounted(NAME)

    assert len(starts(tree)) == 1


async def test_a_mount_that_never_answers_is_given_up(mounts, monkeypatch):
    monkeypatch.setattr(exports, "READY_TIMEOUT_S", 0.3)
    async with mounts("silent:") as repositories:
        with pytest.raises(DeadlineError):
            await repositories.mounted(NAME)


async def test_a_stale_mount_of_an_earlier_site_is_taken_away_first(mounts, tree, home):
    place = home.site / "cvmfs" / NAME
    place.mkdir(parents=True)
    await anyio.run_process(["mount", "-t", "tmpfs", "none", place])
    async with mounts(tree) as repositories:
        mounted = await repositories.mounted(NAME)
        assert (mounted.path / "file").exists()
        assert _mounts_at(place) == 1


async def test_an_error_of_the_site_leaves_as_it_is(mounts, tree):
    async def fail():
        async with mounts(tree) as repositories:
            await repositories.mounted(NAME)
            raise NotFoundError("anything", "else")

    with pytest.raises(NotFoundError):
        await fail()


async def test_another_repository_is_not_found(mounts, tree):
    async with mounts(tree) as repositories:
        with pytest.raises(NotFoundError):
            await repositories.mounted("other.cernvm.test")


SITE = """
import sys, anyio
from pathlib import Path
from cernvm.site.config import Export
from cernvm.site.exports import RepositoryMounts

async def main(folder, tree, command):
    exports = [Export("sft.cernvm.test", tree, Path("key.pub"))]
    folders = {"folder": folder / "mounts", "cache": folder, "log_folder": folder}
    async with RepositoryMounts(exports, **folders, command=command) as mounts:
        await mounts.mounted("sft.cernvm.test")
        print("ready", flush=True)
        await anyio.sleep_forever()

anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
"""


def test_children_die_with_their_site(tree, tmp_path):
    command = ["unshare", "-m", sys.executable, "-c", SITE, tmp_path, tree, *FAKE]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as site:
        assert site.stdout.readline() == b"ready\n"
        (child,) = starts(tree)

        site.kill()

    deadline = time.monotonic() + 5
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _mounts_at(path):
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return len([line for line in lines if line.split()[4] == str(path)])
