"""What this machine lacks is told in one sentence with what to do, and nothing is left behind."""

import os
import subprocess
import time

import pytest

from cernvm.box.preflight import check_others, only_one
from cernvm.core.errors import ConflictError
from cernvm.core.process import record_process, start_child, stop_child
from conftest import CVM

PREREQUISITE, HOST, SPACE, CONFLICT = 15, 30, 32, 40


def demo_inside(script, home, *words, timeout=120):
    """`cvm demo` after a shell script in a private mount namespace."""
    return subprocess.run(
        [
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-ec",
            f'{script}\nexec "$@"',
            "sh",
            CVM,
            "demo",
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )


def assert_complaint(done, status, what, advice):
    lines = done.stderr.strip().splitlines()
    assert done.returncode == status, done.stderr
    assert lines[-2].startswith("cvm: ")
    assert what in lines[-2]
    assert lines[-1].startswith("  → ")
    assert advice in lines[-1]
    assert "Traceback" not in done.stderr


def test_no_fuse_device(home):
    done = demo_inside("mount -t tmpfs none /dev", home)
    assert_complaint(done, PREREQUISITE, "no /dev/fuse", "fuse kernel module")
    assert not home.path.exists()


def test_a_fuse_device_that_an_ordinary_user_may_not_open(ordinary_user):
    ordinary_user.fuse.chmod(0o600)
    done = ordinary_user.cvm("demo")
    assert_complaint(done, PREREQUISITE, "/dev/fuse", "run as root")
    assert not list(ordinary_user.home.iterdir())


def test_an_ordinary_user_without_subordinate_accounts(ordinary_user):
    ordinary_user.lend(0)
    done = ordinary_user.cvm("demo")
    assert_complaint(done, PREREQUISITE, "/etc/subuid lends the account tester", "usermod")
    assert not list(ordinary_user.home.iterdir())


def test_an_ordinary_user_where_no_namespaces_are_given(ordinary_user, tmp_path):
    (ordinary_user.folder / "zero").write_text("0\n")
    ordinary_user.prelude = (
        f"mount --bind {ordinary_user.folder}/zero /proc/sys/user/max_user_namespaces"
    )
    done = ordinary_user.cvm("demo")
    assert_complaint(done, PREREQUISITE, "no user namespaces", "run as root")
    assert not list(ordinary_user.home.iterdir())


def test_an_ordinary_user_without_newuidmap(ordinary_user):
    done = ordinary_user.cvm("demo", path="/nowhere")
    assert_complaint(done, PREREQUISITE, "newuidmap", "uidmap")
    assert not list(ordinary_user.home.iterdir())


def test_a_missing_program(home):
    done = demo_inside("export PATH=/nowhere", home)
    assert_complaint(done, PREREQUISITE, "prosody is missing", "apt-get install prosody")
    assert not home.path.exists()


def test_a_disk_that_is_too_small(home, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    done = demo_inside(
        f"mount -t tmpfs -o size=50m none {small}; export CVM_HOME={small}/home", home
    )
    assert_complaint(done, SPACE, "are needed", "free some space")
    assert not list(small.iterdir())


def test_no_network_to_the_package_mirrors(home):
    began = time.monotonic()
    done = subprocess.run(
        ["unshare", "-n", CVM, "demo"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )
    assert_complaint(done, HOST, "the Debian mirror", "check the network")
    assert time.monotonic() - began < 100


def test_a_second_demo_in_the_same_folder(home, cvm):
    with only_one(home):
        done = cvm("demo", check=False)
    assert_complaint(done, CONFLICT, f"another demo (process {os.getpid()})", "--clean")
    with only_one(home):
        pass


def test_a_service_of_somebody_else_in_the_same_folder(home):
    child = start_child(["sleep", "60"])
    try:
        record_process(home.run / "site.json", "cvm site serve", pid=child.pid)
        with pytest.raises(ConflictError, match=f"process {child.pid}"):
            check_others(home)
    finally:
        stop_child(child)
    check_others(home)


def test_clean_touches_nothing_that_no_demo_made(home, cvm):
    home.path.mkdir()
    (home.path / "thesis.tex").write_text("draft")
    assert "no demo" in cvm("demo", "--clean").stdout
    assert (home.path / "thesis.tex").exists()
