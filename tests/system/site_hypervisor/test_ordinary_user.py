"""The same promises where root is only a user namespace's own, as an ordinary user's demo has it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conftest import missing
from system.site_hypervisor.ordinary import FIRST_ID

TESTS = Path(__file__).parents[2]


@pytest.fixture
def inside():
    """A folder that the namespace's root owns and can reach; `tmp_path` lies below a private one."""
    folder = Path(tempfile.mkdtemp(prefix="cvm-ordinary-"))
    os.chown(folder, FIRST_ID, FIRST_ID)
    yield folder
    shutil.rmtree(folder)


def test_contract_and_isolation_hold_inside_a_user_namespace(inside):
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split()[2] != "4294967295":
        missing("mapping a range of ids needs the machine's root here")
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", inside / "tests",
        "contract/site_hypervisor", "system/site_hypervisor/test_isolation.py",
    ]  # fmt: skip

    finished = subprocess.run(
        [sys.executable, "-m", "system.site_hypervisor.ordinary", *map(str, command)],
        cwd=TESTS, capture_output=True, text=True, timeout=100, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(inside), "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip

    assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-2000:]
