"""A data folder in which the main job ran, and an ordinary user.

The user has a device node of its own, made inside a private mount namespace: the host is not changed.
"""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from cernvm.core.home import Home
from system.box.demos import Told, demo

ROOT = Path(__file__).parents[3]
UID = 4242
SUBORDINATE = 300_000
FIRST_RUN_S = 600

# bind the user's own node and account files over the host's, in this namespace only, then become that user
_BECOME = """
set -e
mount --bind "$1/fuse" /dev/fuse
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mount --bind "$1/subuid" /etc/subuid
mount --bind "$1/subuid" /etc/subgid
eval "$2"
shift 2
exec setpriv --reuid 4242 --regid 4242 --clear-groups --reset-env "$@"
"""


class OrdinaryUser:
    """Runs commands as an account that exists only inside the private mount namespace of each command."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        os.chown(self.home, UID, UID)
        self.fuse = folder / "fuse"
        os.mknod(self.fuse, stat.S_IFCHR | 0o666, os.makedev(10, 229))
        self.fuse.chmod(0o666)
        for name, row in (
            ("passwd", f"tester:x:{UID}:{UID}::{self.home}:/bin/sh"),
            ("group", f"tester:x:{UID}:"),
        ):
            text = Path(f"/etc/{name}").read_text()
            (folder / name).write_text(f"{text}{row}\n")
        self.lend(65536)
        self.prelude = ""

    def lend(self, count):
        (self.folder / "subuid").write_text(f"tester:{SUBORDINATE}:{count}\n")

    def start(self, *command, **options):
        env = {
            "HOME": str(self.home),
            "CVM_HOME": str(self.home / "cvm"),
            "PATH": options.pop("path", os.environ["PATH"]),
        }
        env |= {
            key: value
            for key, value in os.environ.items()
            if "proxy" in key.lower() or key.startswith("PIP_")
        }
        inside = [
            "/usr/bin/env",
            *(f"{key}={value}" for key, value in env.items()),
            *map(str, command),
        ]
        return subprocess.Popen(
            [
                "unshare",
                "-m",
                "--propagation",
                "private",
                "sh",
                "-c",
                _BECOME,
                "sh",
                self.folder,
                self.prelude,
                *inside,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            **options,
        )

    def run(self, *command, timeout=60, **options):
        with self.start(*command, **options) as child:
            try:
                output, said = child.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
        return subprocess.CompletedProcess(command, child.returncode, output, said)

    def cvm(self, *words, **options):
        return self.run(ROOT / ".venv/bin/cvm", *words, **options)

    def python(self, text, *arguments, **options):
        return self.run(ROOT / ".venv/bin/python", "-c", text, *arguments, **options)


@pytest.fixture
def ordinary_user(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("makes a device node and an account in a private namespace: needs root")
    # not below pytest's own folder, which other accounts cannot enter
    import tempfile

    with tempfile.TemporaryDirectory(prefix="cvm-user-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield OrdinaryUser(folder)


def pytest_collection_modifyitems(items):
    """The test that cleans up what `told` tells comes last: a data folder of its own would cost it a demo."""
    items.sort(key=lambda item: item.name.startswith("test_clean_ends_a_running_demo"))


@pytest.fixture(scope="session")
def told(tmp_path_factory):
    """A data folder in which the main job ran once, in full, from nothing."""
    if os.geteuid() != 0:
        pytest.skip("the whole story as root needs root; test_ordinary_user has the other")
    folder = tmp_path_factory.mktemp("told")
    home = Home(folder / "home")
    # its own report: later tests tell smaller stories in the same data folder, in any order
    done = demo(home, "--report", folder / "report", timeout=FIRST_RUN_S)
    assert done.returncode == 0, done.stderr
    yield Told(home, folder / "report", done.stdout)
    assert not home.path.exists() or demo(home, "--clean").returncode == 0
    assert not home.path.exists()
