"""Markers by folder, the data folder every test gets, and the watch for leaks."""

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

from cernvm.core.home import Home

KINDS = ("unit", "contract", "system", "attack")

# for every property test that sets no number itself
settings.register_profile("test", max_examples=300 if os.environ.get("CVM_SOAK") else 30)
settings.load_profile("test")


def pytest_configure():
    """What a shell starts in the background ignores Ctrl-C, and so would all that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    root = Path(__file__).parent
    for item in items:
        kind = Path(item.path).relative_to(root).parts[0]
        if kind in KINDS:
            item.add_marker(getattr(pytest.mark, kind))
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.soak)


@pytest.fixture
def home(tmp_path):
    """An empty data folder of the test's own."""
    return Home(tmp_path / "home")


@pytest.fixture
def cvm(home):
    """Run `cvm` as a user would; returns the finished process with text output."""
    return runner(home)


def runner(home):
    """What the fixture `cvm` is, for a data folder that several tests share."""

    def run(*arguments, check=True, timeout=60, **env):
        finished = subprocess.run(
            [CVM, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "CVM_HOME": str(home.path), **env},
            check=False,
        )
        if check and finished.returncode != 0:
            pytest.fail(
                f"cvm {' '.join(map(str, arguments))}: {finished.stderr or finished.stdout}"
            )
        return finished

    return run


CVM = str(Path(__file__).parent.parent / ".venv/bin/cvm")


@pytest.fixture
def count():
    """How often a long test repeats: a tenth (or a `part`th) in `make test`, all of it in `make soak`."""
    return lambda full, part=10: full if os.environ.get("CVM_SOAK") else max(1, full // part)


@pytest.fixture
def seeded():
    """A random source whose seed a failing test shows; set CVM_TEST_SEED to repeat one."""
    seed = int(os.environ.get("CVM_TEST_SEED", "20261121"))
    print(f"CVM_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def need_fuse():
    """Fail in CI, skip elsewhere, where this machine cannot mount."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        missing("/dev/fuse cannot be opened")


def missing(reason):
    """A system test whose server is missing fails in CI and is skipped with its reason elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {reason}")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def no_leaks(request, tmp_path):
    """No test leaves a mount below its folder or a child process behind."""
    children_before = _children()
    yield
    mounts = [
        line.split()[4]
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split()[4].startswith(str(tmp_path))
    ]
    for mount in reversed(mounts):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    left = _children() - children_before
    assert not mounts, f"left mounted: {mounts}"
    assert not left, f"left running: {left}"


def _children():
    """(pid, command) of this process's live direct children; threads and children may end while we look."""
    found = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for pid in (thread / "children").read_text().split():
                with contextlib.suppress(OSError):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if command:
                        found.add(
                            (pid, command.replace(b"\0", b" ").decode(errors="replace")[:200])
                        )
    return found
