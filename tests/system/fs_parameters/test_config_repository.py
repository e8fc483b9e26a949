"""A configuration repository, read without a mount and through one; `cvm config show` tells what came of it."""

import json
import os

import pytest

from system.published import published

CONFIG = "config.cernvm.test"
NAME = "sft.other.test"


@pytest.fixture
def etc(tmp_path):
    folder = tmp_path / "etc"
    (folder / "config.d").mkdir(parents=True)
    return folder


@pytest.fixture
def tree(tmp_path):
    """What the configuration repository holds."""
    folder = tmp_path / "tree"
    inside = folder / "etc/cvmfs"
    (inside / "domain.d").mkdir(parents=True)
    (inside / "keys").mkdir()
    (inside / "common.conf").write_text("CVMFS_USE_GEOAPI=yes\n")
    (inside / "domain.d/other.test.conf").write_text(
        """. ../common.conf
if [ "$CVMFS_USE_CDN" = "yes" ]; then
  CVMFS_SERVER_URL="http://cdn/@fqrn@"
else
  CVMFS_SERVER_URL="http://one/@fqrn@;http://two/@fqrn@"
fi
CVMFS_KEYS_DIR=$CVMFS_MOUNT_DIR/config.cernvm.test/etc/cvmfs/keys
"""
    )
    (inside / "keys/other.pub").write_text("KEY")
    (inside / "default.conf").symlink_to("/etc/passwd")
    (inside / "loop").symlink_to("loop")
    return folder


@pytest.fixture
def served(cvm, home, tree, etc, tmp_path):
    with published(cvm, home, CONFIG, tree) as url:
        key = next(home.path.rglob(f"{CONFIG}.pub"))
        (etc / "default.conf").write_text(
            f"CVMFS_CONFIG_REPOSITORY={CONFIG}\nCVMFS_MOUNT_DIR={tmp_path}/cvmfs\n"
        )
        (etc / "config.d" / f"{CONFIG}.conf").write_text(
            f"CVMFS_SERVER_URL={url}/cvmfs/{CONFIG}\nCVMFS_PUBLIC_KEY={key}\n"
        )
        yield url


def show(cvm, etc, *words, **environment):
    return json.loads(
        cvm("config", "show", NAME, "--root", etc, "--json", *words, **environment).stdout
    )


def check(found, folder):
    servers = found["parameters"]["CVMFS_SERVER_URL"]
    assert servers["value"] == "http://one/@fqrn@;http://two/@fqrn@"
    assert servers["origin"] == f"{folder}/etc/cvmfs/domain.d/other.test.conf:5"
    assert found["parameters"]["CVMFS_USE_GEOAPI"]["value"] == "yes"
    assert found["keys"] == [f"{folder}/etc/cvmfs/keys/other.pub"]
    assert found["warnings"] == []


def test_it_is_read_without_a_mount(served, cvm, etc, tmp_path):
    check(show(cvm, etc), tmp_path / "cvmfs" / CONFIG)


def test_it_is_read_through_its_mount(served, cvm, etc, tmp_path, need_fuse, home):
    point = tmp_path / "cvmfs" / CONFIG
    point.mkdir(parents=True)
    cvm("mount", CONFIG, point)
    try:
        check(show(cvm, etc), point)
    finally:
        cvm("umount", "--force", point)


def test_the_environment_answers_its_questions(served, cvm, etc):
    found = show(cvm, etc, CVMFS_USE_CDN="yes")
    assert found["parameters"]["CVMFS_SERVER_URL"]["value"] == "http://cdn/@fqrn@"


def test_what_it_cannot_tell_any_more_it_told_last(served, cvm, etc, tmp_path, home):
    """The cache holds what was read; no server is there."""
    show(cvm, etc)
    os.kill(json.loads((home.run / "repo.json").read_text())["pid"], 9)
    check(show(cvm, etc), tmp_path / "cvmfs" / CONFIG)


def test_one_that_nobody_serves_is_told_and_left_out(cvm, etc, home):
    cvm("repo", "create", CONFIG)
    key = next(home.path.rglob(f"{CONFIG}.pub"))
    (etc / "default.conf").write_text(f"CVMFS_CONFIG_REPOSITORY={CONFIG}\nCVMFS_QUOTA_LIMIT=7\n")
    (etc / "config.d" / f"{CONFIG}.conf").write_text(
        f"CVMFS_SERVER_URL=http://127.0.0.1:9/x\nCVMFS_PUBLIC_KEY={key}\n"
    )
    finished = cvm("config", "show", NAME, "--root", etc, check=False)
    assert "CVMFS_QUOTA_LIMIT=7" in finished.stdout
    assert f"{CONFIG}: it cannot be read" in finished.stderr
