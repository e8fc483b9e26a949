"""Real work on a mount: what users run, from one tree of real files."""

import contextlib
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

import pytest

from conftest import CVM

NAME = "work.cernvm.test"


class Work:
    """A repository published, served and mounted for this module."""

    def __init__(self, base, undo):
        self.base = base
        self.tree = base / "tree"
        self.point = base / "mnt"
        self.point.mkdir()
        self.environment = {**os.environ, "CVM_HOME": str(base / "home")}
        plant(self.tree)
        self.cvm("repo", "create", NAME)
        self.cvm("repo", "publish", NAME, self.tree)
        self.server = subprocess.Popen(
            [CVM, "repo", "serve", "--port", "0"], env=self.environment, stdout=subprocess.PIPE
        )
        undo.callback(self.server.wait, 10)
        undo.callback(self.server.terminate)
        undo.callback(self.server.stdout.close)
        self.server.stdout.readline()
        self.cvm("mount", NAME, self.point)
        undo.callback(self.cvm, "umount", "--force", self.point)

    def cvm(self, *words):
        subprocess.run([CVM, *map(str, words)], env=self.environment, check=True, timeout=60)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        from conftest import missing

        missing("/dev/fuse cannot be opened")
    base = Path(tempfile.mkdtemp(prefix="work-", dir=tmp_path_factory.getbasetemp()))
    base.chmod(0o755)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, base, ignore_errors=True)
        yield Work(base, undo)


def plant(tree):
    """Python packages, a C program, a checkout, and many small files."""
    tree.mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    for package in ("json", "email", "xml", "concurrent", "logging", "unittest"):
        shutil.copytree(library / package, tree / "python" / package)
    (tree / "c/include").mkdir(parents=True)
    (tree / "c/include/answer.h").write_text("#define ANSWER 42\n")
    (tree / "c/main.c").write_text(
        '#include "answer.h"\n#include <stdio.h>\nint main(void) { printf("%d", ANSWER); }\n'
    )
    checkout = tree / "checkout"
    checkout.mkdir()
    (checkout / "src").mkdir()
    for number in range(200):
        (checkout / f"src/f{number}.txt").write_text(f"line {number}\n")
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all")
    (tree / "many").mkdir()
    for number in range(500):
        (tree / f"many/f{number:03}").write_bytes(content(number))
    (tree / "version").write_text("1")


def content(number):
    return hashlib.sha256(b"%d" % number).digest() * (1 + number % 40)


def git(folder, *words):
    return subprocess.run(
        ["git", "-c", f"safe.directory={folder}", *words],
        cwd=folder, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


def test_python_packages_are_imported_from_the_mount(work):
    code = "import json, email, xml, sys; assert json.__file__.startswith(sys.argv[1]); print(json.dumps([1]))"
    finished = subprocess.run(
        [sys.executable, "-B", "-c", code, work.point],
        env={**os.environ, "PYTHONPATH": str(work.point / "python")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert finished.stdout == "[1]\n"


def test_a_compiler_reads_sources_and_headers_from_the_mount(work, tmp_path):
    if shutil.which("cc") is None:
        from conftest import missing

        missing("no C compiler is installed")
    program = tmp_path / "program"
    subprocess.run(
        ["cc", "-I", work.point / "c/include", work.point / "c/main.c", "-o", program], check=True
    )
    assert subprocess.run([program], capture_output=True, check=True).stdout == b"42"


def test_git_sees_a_clean_checkout(work):
    assert git(work.point / "checkout", "status", "--porcelain") == ""
    assert git(work.point / "checkout", "log", "--format=%s") == "all\n"
    git(work.point / "checkout", "fsck", "--full")


def test_an_overlay_makes_the_mount_writable(work, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounts an overlay: needs root")
    upper, scratch, merged = (tmp_path / name for name in ("upper", "work", "merged"))
    for folder in (upper, scratch, merged):
        folder.mkdir()
    options = f"lowerdir={work.point},upperdir={upper},workdir={scratch}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
    try:
        (merged / "many/f001").write_bytes(b"changed")
        (merged / "many/new").write_bytes(b"new")
        (merged / "many/f002").unlink()
        assert (merged / "many/f001").read_bytes() == b"changed"
        assert (merged / "many/f003").read_bytes() == content(3)
        assert not (merged / "many/f002").exists()
        assert len(list((merged / "many").iterdir())) == 500
    finally:
        subprocess.run(["umount", merged], check=True)
    assert (work.point / "many/f001").read_bytes() == content(1)


def test_sixty_four_processes_read_everything_at_once(work):
    code = (
        "import pathlib, hashlib, sys\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    print(path.name, hashlib.md5(path.read_bytes()).hexdigest())\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", code, work.point / "many"], stdout=subprocess.PIPE
        )
        for _ in range(64)
    ]
    outputs = {process.communicate(timeout=100)[0] for process in running}
    assert not any(process.returncode for process in running)
    expected = [f"f{n:03} {hashlib.md5(content(n)).hexdigest()}\n" for n in range(500)]
    assert outputs == {"".join(expected).encode()}


def test_ten_thousand_files_are_open_at_once(work):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_000
    if hard < wanted + 100:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted + 1000), hard))
    opened = []
    try:
        opened.extend(
            os.open(work.point / f"many/f{number % 500:03}", os.O_RDONLY)
            for number in range(wanted)
        )
        for number in range(0, wanted, 7):
            assert os.pread(opened[number], 1 << 16, 0) == content(number % 500)
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_different_files_are_open_at_once_in_a_mount_of_few_descriptors(work):
    """The files of the checkout, of the packages and the many: each open once, then read."""
    opened = {}
    try:
        for folder, _, names in os.walk(work.point):
            for name in names:
                opened[Path(folder, name)] = os.open(Path(folder, name), os.O_RDONLY)
        for path, descriptor in opened.items():
            original = work.tree / path.relative_to(work.point)
            assert os.pread(descriptor, 1 << 22, 0) == original.read_bytes()
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
    assert len(opened) > 900


def test_a_poll_loop_sees_a_new_revision_whole_and_open_files_keep_theirs(work):
    """A reader that only polls never sees files of two revisions beside each other."""
    before = os.open(work.point / "version", os.O_RDONLY)
    seen, wrong, stop = set(), [], threading.Event()

    def poll():
        while not stop.is_set():
            version = (work.point / "version").read_text()
            seen.add(version)
            if version == "2" and (work.point / "many/f000").read_bytes() != b"second":
                wrong.append("an old file after a new one")
            time.sleep(0.01)

    (work.tree / "version").write_text("2")
    (work.tree / "many/f000").write_bytes(b"second")
    watcher = threading.Thread(target=poll)
    watcher.start()
    try:
        work.cvm("repo", "publish", NAME, work.tree)
        work.cvm("remount", work.point)
        end = time.monotonic() + 20
        while "2" not in seen and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        stop.set()
        watcher.join()
    try:
        assert seen == {"1", "2"}
        assert not wrong
        assert os.pread(before, 10, 0) == b"1"
    finally:
        os.close(before)
        (work.tree / "version").write_text("1")
        (work.tree / "many/f000").write_bytes(content(0))
        work.cvm("repo", "publish", NAME, work.tree)
        work.cvm("remount", work.point)
