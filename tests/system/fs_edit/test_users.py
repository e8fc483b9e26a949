"""Edits by an ordinary user, whose namespace knows one owner, and by root for the whole machine."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from cernvm.core.home import Home
from cernvm.fs.publish.repository import open_storage, read_repository
from conftest import CVM, missing
from system.fs_publish.conftest import read_back

from .conftest import NAME, SEEN, contents, fill

SOMEBODY = pwd.getpwnam("daemon").pw_uid


@pytest.fixture
def his(need_fuse):
    """Run `cvm` as an ordinary user who may open /dev/fuse; gives the runner and the data folder."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        missing("only root, by setpriv, can be somebody else")
    with tempfile.TemporaryDirectory(prefix="cvm-test-") as folder:
        os.chmod(folder, 0o755)
        home = Path(folder) / "home"
        home.mkdir()
        os.chown(home, SOMEBODY, SOMEBODY)
        node = Path(folder) / "fuse"
        os.mknod(node, 0o666 | 0o20000, os.makedev(10, 229))
        node.chmod(0o666)
        words = [
            "unshare", "--mount", "sh", "-c", f'mount --bind {node} /dev/fuse; exec "$@"', "sh",
            "setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups",
            "env", f"CVM_HOME={home}", CVM,
        ]  # fmt: skip

        def run(*arguments):
            done = subprocess.run(
                [*words, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done

        yield run, Home(home)


def test_an_ordinary_user_edits_what_belongs_to_others(his):
    run, home = his
    tree = home.path.parent / "tree"  # pytest's own folders are closed to others
    fill(tree)
    run("repo", "create", NAME)
    run("repo", "publish", NAME, tree, "--owner", "root")

    script = f"cd {SEEN}; test -O run; echo more >> run; chmod 700 v1; rm -r v2; echo new > new"
    run("repo", "edit", NAME, "--yes", "--", "sh", "-c", script)

    repository = read_repository(home, NAME)
    found, _ = read_back(repository, open_storage(repository))
    assert found[b"/run"][1].endswith(b"more\n")
    assert (found[b"/run"][0].uid, found[b"/v1"][0].uid, found[b""][0].uid) == (0, 0, 0)
    assert found[b"/v1"][0].mode & 0o777 == 0o700
    assert found[b"/new"][0].uid == SOMEBODY
    assert not any(path.startswith(b"/v2") for path in found)


def test_root_opens_a_transaction_for_the_whole_machine(bench, published, home):
    if os.geteuid() != 0:
        missing("only root can")
    was_there = os.path.isdir("/cvmfs")
    script = f"""
        set -e
        refused() {{ if "$@" 2> /dev/null; then echo "not refused: $*" >&2; exit 9; fi; }}
        mount --make-rprivate /
        [ -d /cvmfs ] || mkdir /cvmfs
        mount -t tmpfs none /cvmfs
        place=$({CVM} repo transaction {NAME} --at /v1)
        test "$place" = {SEEN}/v1
        echo by-root > $place/file
        refused touch {SEEN}/no
        refused {CVM} repo transaction {NAME}
        cd $place
        refused {CVM} repo publish {NAME}
        cd /
        {CVM} repo publish {NAME}
        refused grep cernvm.test /proc/mounts
        {CVM} repo transaction {NAME}
        rm -r {SEEN}/v2
        {CVM} repo abort {NAME}
        refused grep cernvm.test /proc/mounts
        {CVM} repo transaction {NAME}
        for point in $(grep cernvm.test /proc/mounts | cut -d' ' -f2 | tac); do umount $point; done
        mount -t tmpfs others {SEEN}
        {CVM} repo abort {NAME}
        grep "others {SEEN}" /proc/mounts
    """
    try:
        subprocess.run(
            ["unshare", "--mount", "sh", "-c", script], check=True, timeout=60, capture_output=True,
            env={**os.environ, "CVM_HOME": str(home.path)},
        )  # fmt: skip
    finally:
        if not was_there:
            os.rmdir("/cvmfs")

    found = contents(bench)
    assert found["/v1/file"] == b"by-root\n"
    assert found["/v2/lib/deep/b"] == b"b"
