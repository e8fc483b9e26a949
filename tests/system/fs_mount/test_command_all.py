"""`cvm mount --all`, `cvm umount --all`, mounts by name alone, and the systemd unit that does it at every start."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cernvm.fs.fuse import mount_at
from conftest import CVM, missing

NAME = "vectors.cernvm.test"


@pytest.fixture
def configured(vectors, tmp_path, need_fuse):
    """A machine, in a mount namespace of its own, whose /etc/cvmfs lists repositories; runs scripts in it."""
    etc = tmp_path / "etc"
    (etc / "config.d").mkdir(parents=True)

    def run(script, *names):
        (etc / "default.conf").write_text(f"CVMFS_MOUNT_DIR={tmp_path}/cvmfs\n")
        (etc / "default.local").write_text(f"CVMFS_REPOSITORIES={','.join(names)}\n")
        for name in names:
            (etc / "config.d" / f"{name}.conf").write_text(
                f"CVMFS_SERVER_URL={vectors.url}\nCVMFS_HTTP_PROXY=DIRECT\n"
                f"CVMFS_PUBLIC_KEY={vectors.key}\nCVMFS_CACHE_BASE={tmp_path}/cache\n"
            )
        Path("/etc/cvmfs").mkdir(exist_ok=True)
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", f"mount --bind {etc} /etc/cvmfs; {script}"],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "CVM_HOME": str(tmp_path / "home")},
        )  # fmt: skip

    if os.geteuid() != 0:
        missing("needs root, for a private /etc/cvmfs")
    had_folder = Path("/etc/cvmfs").is_dir()
    yield run
    if not had_folder:
        Path("/etc/cvmfs").rmdir()


def test_all_that_is_configured_is_mounted_and_unmounted(configured, tmp_path):
    ended = configured(
        f"{CVM} mount --all --json && cat {tmp_path}/cvmfs/{NAME}/changed && {CVM} mount --all && "
        f"{CVM} umount --all && {CVM} mount --json",
        NAME,
    )

    assert ended.returncode == 0, ended.stderr
    rows, _, rest = ended.stdout.partition("]\n")
    (row,) = json.loads(rows + "]")
    assert (row["repository"], row["state"], row["revision"]) == (NAME, "mounted", 3)
    assert rest.startswith("revision 3\n")
    assert rest.rstrip().endswith("[]")
    assert "mounted" in rest


def test_one_that_fails_keeps_no_other_from_being_mounted(configured, tmp_path):
    ended = configured(
        f"{CVM} mount --all; echo $?; cat {tmp_path}/cvmfs/{NAME}/changed; {CVM} umount --all",
        "absent.cernvm.test",
        NAME,
    )

    assert "revision 3" in ended.stdout
    assert "\n20\n" in ended.stdout, ended.stdout  # the server is of another repository
    assert "absent.cernvm.test" in ended.stdout


def test_a_configured_repository_needs_its_name_only(configured, tmp_path):
    ended = configured(
        f"{CVM} mount {NAME} && cat {tmp_path}/cvmfs/{NAME}/changed && {CVM} umount --all && "
        f"{CVM} fs cat {NAME}:/changed && {CVM} exec {NAME} -- cat /cvmfs/{NAME}/changed",
        NAME,
    )

    assert ended.stdout.splitlines()[1:] == ["revision 3"] * 3, ended.stderr


def test_nothing_to_mount_or_to_unmount_is_told(cvm, tmp_path):
    assert cvm("umount", check=False).returncode == 11
    assert cvm("umount", "--all", tmp_path, check=False).returncode == 11
    assert cvm("umount", "--all").stdout == ""
    assert cvm("mount", "--all", "a.b", check=False).returncode == 11


def test_a_kernel_option_and_an_owner_map_reach_the_mount(vectors, mount, point, cvm, tmp_path):
    (tmp_path / "uid.map").write_text("0 4711\n* 42\n")

    mount(vectors, "--uid-map", tmp_path / "uid.map", "--opening", "keep-cache")

    shown = subprocess.run(
        ["stat", "-c", "%u", point / "changed"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "4711\n"


def test_a_held_mount_stays_at_its_revision(vectors, mount, point, cvm):
    mount(vectors, "--tag", "first")

    (row,) = json.loads(cvm("mount", "--json").stdout)
    assert row["revision"] == 1
    assert not os.path.exists(point / "changed")


def test_the_unit_is_one_that_systemd_takes(vectors, point, cvm, tmp_path):
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze is not installed")
    for words in (("--all",), (vectors.name, point, "--url", "http://a/50%$x;http://b")):
        keys = () if words == ("--all",) else ("--public-key", vectors.key)
        unit = tmp_path / "cernvm.service"
        unit.write_text(cvm("mount", *words, *keys, "--systemd-unit").stdout)

        verified = subprocess.run(
            ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
        )

        assert (verified.returncode, verified.stderr) == (0, "")
        assert str(words[0]) in unit.read_text()
    assert mount_at(point) is None
