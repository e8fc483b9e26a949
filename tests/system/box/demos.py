"""Demos as processes, as tests start and watch them."""

import json
import os
import shutil
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from cernvm.core.home import Home
from conftest import CVM

SMALL = ("--jobs", "2", "--events", "50", "--instances", "1")


@dataclass(frozen=True)
class Told:
    home: Home
    report: Path
    said: str

    @property
    def document(self):
        return json.loads((self.report / "report.json").read_bytes())


def start(home, *words):
    return subprocess.Popen(
        [CVM, "demo", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )


def demo(home, *words, timeout=120):
    return cvm(home, "demo", *words, timeout=timeout)


def cvm(home, *words, timeout=60):
    return subprocess.run(
        [CVM, *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )


def copy_releases(from_home, home, *, owner=None):
    """Trees and stamps, hard linked; with `owner`, copied, each account replaced."""
    for source in (from_home.path / "releases").rglob("*"):
        target = home.path / source.relative_to(from_home.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.name.endswith(".published"):
            continue
        status = source.lstat()
        if stat.S_ISDIR(status.st_mode):
            target.mkdir(exist_ok=True)
            target.chmod(stat.S_IMODE(status.st_mode))
        elif owner is None:
            os.link(source, target, follow_symlinks=False)
        else:
            shutil.copy2(source, target, follow_symlinks=False)
        if owner is not None:
            os.chown(target, owner(status.st_uid), owner(status.st_gid), follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                target.chmod(stat.S_IMODE(status.st_mode))
    (home.path / "demo.mark").write_text('{"made_folder": true}')
    if owner is not None:
        for path in (home.path, home.path / "releases", home.path / "demo.mark"):
            os.chown(path, owner(0), owner(0))


def assert_nothing_runs(home, within_s=10.0):
    """No process of the demo, and none that still sees a mount below the data folder."""
    wait_for(lambda: not processes_of(home), within_s, tell=lambda: processes_of(home))


def processes_of(home):
    wanted = str(home.path).encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if folder.name == str(os.getpid()):
            continue
        try:
            seen = (folder / "mountinfo").read_bytes() + (folder / "environ").read_bytes()
            if wanted in seen:
                found[folder.name] = (folder / "cmdline").read_bytes()[:200]
        except OSError:
            continue
    return found


def wait_for(condition, seconds=30, tell=lambda: ""):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, tell()
        time.sleep(0.05)
