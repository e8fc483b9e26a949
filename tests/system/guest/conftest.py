"""A private system for one test: own mounts, processes and name; its root is an overlay over this machine's."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cernvm
from conftest import missing

SCRIPT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o size=64m tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs home
rm -rf cvmfs var/lib/cernvm etc/cernvm
mkdir -p cvmfs/sft.cernvm.test
echo data > cvmfs/sft.cernvm.test/README
mount --bind /dev dev
for shown in "$6" "$7"; do  # the interpreter and the package, wherever the clone lies
    mkdir -p "./$shown"
    mount --bind "$shown" "./$shown"
done
eval "$2"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 \
    setpriv --bounding-set="$5" chroot . "$3" -m cernvm.guest.boot --metadata-url "$4" --wait-s 5
"""


# what the container hypervisor leaves to an instance (docs/decisions/container-hypervisor.md)
RIGHTS = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setuid,+setgid,+setpcap,+net_bind_service,+sys_chroot"


class Machine:
    """A running private system; paths are as it sees them."""

    def __init__(self, tmp_path, url, prepare, rights, kinds):
        if os.geteuid() != 0:
            missing("root, to make a private system")
        self.console_path = tmp_path / "console"
        root = tmp_path / "system"
        root.mkdir()
        with self.console_path.open("wb") as console:
            self.process = subprocess.Popen(
                ["unshare", "--mount", *kinds, "--uts", "--ipc", "--fork", "--kill-child", "--",
                 "sh", "-c", SCRIPT, "sh", str(root), prepare, sys.executable, url, rights,
                 sys.prefix, str(Path(cernvm.__file__).parent.parent)],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.root_below = root / "root"

    @property
    def console(self):
        return self.console_path.read_text("utf-8", "replace")

    @property
    def init_pid(self):
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0])

    def path(self, inside):
        return Path(f"/proc/{self.init_pid}/root") / inside.lstrip("/")

    def read(self, inside):
        return self.path(inside).read_text()

    def run(self, script, user="root"):
        """What a shell inside prints."""
        return subprocess.run(
            ["nsenter", "--all", f"--target={self.init_pid}", "--root", "--wd=/", "setpriv",
             f"--reuid={user}", f"--regid={user}", "--init-groups", "sh", "-c", script],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout  # fmt: skip

    def wait_for(self, pattern, timeout_s=15):
        """The first match of a pattern on the console."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.console):
                return match
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        pytest.fail(f"{pattern!r} never came:\n{self.console}")

    def end(self, number=signal.SIGTERM):
        """Send process 1 a signal; seconds until all is gone."""
        begin = time.monotonic()
        os.kill(self.init_pid, number)
        self.process.wait(10)
        return time.monotonic() - begin

    def kill(self):
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def start(tmp_path):
    """Start a private system whose metadata service is at `url`; `prepare` is shell, run in its root."""
    running = []

    def begin(url, prepare="hostname worker-1.cernvm.test", rights=RIGHTS, kinds=("--pid",)):
        folder = tmp_path / str(len(running))
        folder.mkdir()
        running.append(Machine(folder, url, prepare, rights, kinds))
        return running[-1]

    yield begin
    for machine in running:
        machine.kill()


@pytest.fixture
def quote():
    return shlex.quote
