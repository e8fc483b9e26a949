"""Markers by folder, the data folder every test gets, and the watch for leaks."""

import contextlib
import os
import random
import subprocess
from pathlib import Path

import pytest

from cernvm.core.home import Home

KINDS = ("unit", "contract", "system", "attack")


def pytest_collection_modifyitems(items):
    root = Path(__file__).parent
    for item in items:
        kind = Path(item.path).relative_to(root).parts[0]
        if kind in KINDS:
            item.add_marker(getattr(pytest.mark, kind))


@pytest.fixture
def home(tmp_path):
    """An empty data folder of the test's own."""
    return Home(tmp_path / "home")


@pytest.fixture
def cvm(home):
    """Run `cvm` as a user would; returns the finished process with text output."""

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
    """How often a long test repeats: a tenth in `make test`, all of it in `make soak`."""
    return lambda full: full if os.environ.get("CVM_SOAK") else max(1, full // 10)


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
