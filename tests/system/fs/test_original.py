"""What we write the original reads, and what it writes we read: both clients on one repository."""

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from system.fs.conftest import NAME

ADDED = "added"  # what one of the tests publishes beside the tree


def listing(root):
    """Everything that a mount shows of the tree, by path."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in (*folders, *files):
            path = Path(os.fsdecode(folder), os.fsdecode(name))
            status = path.lstat()
            shown = path.relative_to(root)
            if shown.parts[0] == ADDED:
                continue
            links = 1 if path.is_dir() else status.st_nlink
            size = 0 if path.is_dir() else status.st_size
            found[str(shown)] = (
                stat.filemode(status.st_mode), size, links, status.st_uid, status.st_gid,
                int(status.st_mtime), content(path, status),
            )  # fmt: skip
    return found


def content(path, status):
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if stat.S_ISREG(status.st_mode):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


def test_both_clients_show_the_same_tree(both):
    ours, theirs = listing(both.ours), listing(both.theirs)

    assert ours == theirs
    assert ours == listing(both.tree)
    assert len(ours) > 300


@pytest.mark.parametrize(
    "name", ["hash", "compression", "chunks", "chunk_list", "external_file", "direct_io", "lhash"]
)
@pytest.mark.parametrize("path", ["script", "big", "empty", "nested/inside"])
def test_both_clients_tell_the_same_of_a_file(both, path, name):
    def told(point):
        target = point / path
        target.read_bytes()
        try:
            return os.getxattr(target, f"user.{name}").rstrip(b"\n\0")
        except OSError as error:
            return error.errno

    assert told(both.ours) == told(both.theirs)


@pytest.mark.parametrize(
    "name", ["fqrn", "revision", "root_hash", "tag", "host", "repo_counters", "catalog_counters"]
)
@pytest.mark.parametrize("path", ["", "nested"])
def test_both_clients_tell_the_same_of_the_repository(both, path, name):
    ours = os.getxattr(both.ours / path, f"user.{name}")
    assert ours.rstrip(b"\n\0") == os.getxattr(both.theirs / path, f"user.{name}").rstrip(b"\n\0")


def test_the_originals_checker_accepts_the_repository_with_its_packs(both, original, tmp_path):
    (tmp_path / "t").mkdir()

    checked = original.swissknife(
        "check", "-r", both.url, "-t", tmp_path / "t", "-k", both.key, "-N", NAME, "-c", "-l", "1"
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "no problems found" in checked.stdout + checked.stderr


def test_a_replica_by_the_original_is_read_without_packs(both, original, tmp_path):
    """The original copies what its catalogs name, which packs are not."""
    replica, scratch, point = (tmp_path / word for word in ("replica", "scratch", "mnt"))
    for folder in (replica, scratch, point):
        folder.mkdir()
    stratum0 = next(both.home.rglob(".cvmfspublished")).parent
    (stratum0 / ".cvmfs_master_replica").touch()
    (replica / "data").mkdir()
    for byte in range(256):
        (replica / f"data/{byte:02x}").mkdir()
    (replica / "data/txn").mkdir()
    server = subprocess.Popen(
        ["python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        cwd=replica, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().split('port ')[1].split()[0]}"
        pulled = original.swissknife(
            "pull", "-m", NAME, "-u", both.url, "-r", f"local,{replica}/data/txn,{replica}", "-k", both.key,
            "-x", scratch, "-w", url, "-n", "4", "-t", "10", "-a", "1", "-l", "1",
        )  # fmt: skip
        assert pulled.returncode == 0, pulled.stdout + pulled.stderr
        words = ("--url", url, "--public-key", both.key)
        both.cvm("mount", NAME, point, *words, "--cache", tmp_path / "cache")
        try:
            assert listing(point) == listing(both.tree)
        finally:
            both.cvm("umount", point)
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


def test_the_original_follows_a_new_revision_of_ours(both, original, tmp_path):
    point = tmp_path / "mnt"
    point.mkdir()
    changed = tmp_path / "changed"
    shutil.copytree(both.tree / "nested", changed)
    (changed / "inside").write_bytes(b"changed")
    both.cvm("repo", "publish", NAME, changed, "--at", f"/{ADDED}")
    original.mount(point, url=both.url, key=both.key, cache=tmp_path / "cache")
    try:
        assert (point / ADDED / "inside").read_bytes() == b"changed"
        assert (point / "nested/inside").read_bytes() == b"inside"
    finally:
        original.unmount(point)
