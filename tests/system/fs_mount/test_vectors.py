"""What the original program wrote looks through a real mount exactly as through the original's."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import threading

import pytest

from system.published import published


def shown(path, inside):
    """One row of a listing, as the samples' listings have it."""
    seen = os.lstat(path)
    row = {
        "path": inside,
        "mode": oct(seen.st_mode),
        "size": seen.st_size,
        "uid": seen.st_uid,
        "gid": seen.st_gid,
        "nlink": seen.st_nlink,
        "mtime_ns": seen.st_mtime_ns,
    }
    if stat.S_ISREG(seen.st_mode):
        with open(path, "rb") as file:
            row["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if stat.S_ISLNK(seen.st_mode):
        row["target"] = os.readlink(path)
    if stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
        row["rdev"] = seen.st_rdev
    if inside != "/" and (names := os.listxattr(path, follow_symlinks=False)):
        row["xattrs_hex"] = {
            name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names
        }
    return row


def listing(point):
    """Every row below a mount, by path."""
    rows = {"/": shown(point, "/")}
    for folder, folders, files in os.walk(point):
        for name in folders + files:
            path = os.path.join(folder, name)
            inside = path.removeprefix(str(point))
            rows[inside] = shown(path, inside)
    return rows


@pytest.mark.parametrize("name", ["vectors", "sample", "shake"])
def test_every_path_equals_the_listing(serve, mount, point, name):
    served = serve(f"{name}.cernvm.test")
    mount(served)

    expected = {
        row["path"]: row for row in map(json.loads, served.listing.read_bytes().splitlines())
    }

    assert listing(point) == expected


def test_the_mount_answers_as_soon_as_the_command_returns(vectors, mount, point, home):
    finished = mount(vectors)

    assert finished.stdout == f"mounted vectors.cernvm.test at {point}, revision 3\n"
    assert (point / "changed").read_bytes()
    assert os.getxattr(point, "user.revision") == b"3"
    assert os.statvfs(point).f_blocks * 4096 <= 4_000_000_000


def test_content_maps_and_lies_under_an_overlay(vectors, mount, point, tmp_path):
    mount(vectors)
    for name in ("upper", "work", "merged", "scratch"):
        (tmp_path / name).mkdir()
    script = f"""
        set -e
        mount -t overlay overlay {tmp_path}/merged \
            -o lowerdir={point},upperdir={tmp_path}/upper,workdir={tmp_path}/work
        cmp {tmp_path}/merged/data/just-4M {point}/data/just-4M
        echo more >> {tmp_path}/merged/changed
        tail -n 1 {tmp_path}/merged/changed
        rm {tmp_path}/merged/data/random-200k
        ls {tmp_path}/merged/data
    """
    finished = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["more", "just-4M", "text-20M", "zeros-17M"]
    script = (
        "import mmap, sys, zlib; f = open(sys.argv[1], 'rb');"
        "print(zlib.crc32(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)))"
    )
    mapped = subprocess.run(
        [sys.executable, "-c", script, point / "data/text-20M"],
        capture_output=True,
        text=True,
        check=True,
    )
    whole = subprocess.run(["gzip", "-c", point / "data/text-20M"], capture_output=True, check=True)
    assert int(mapped.stdout) == int.from_bytes(whole.stdout[-8:-4], "little")


def test_eight_readers_at_once_see_every_file_whole(vectors, mount, point):
    mount(vectors)
    expected = {
        row["path"]: row["sha256"]
        for row in map(json.loads, vectors.listing.read_bytes().splitlines())
        if "sha256" in row
    }
    wrong = []

    def read_all(turn):
        paths = list(expected)
        for path in paths[turn * 7 % len(paths) :] + paths[: turn * 7 % len(paths)]:
            with open(f"{point}{path}", "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected[path]:
                    wrong.append(path)

    readers = [threading.Thread(target=read_all, args=(turn,)) for turn in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)

    assert not wrong


def test_a_program_runs_from_a_mount_of_a_repository_made_here(cvm, home, point, tmp_path):
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy("/usr/bin/env", tree / "bin/env")
    with published(cvm, home, "sft.cernvm.test", tree):
        try:
            cvm("mount", "sft.cernvm.test", point)
            ran = subprocess.run(
                [point / "bin/env", "A=1", "echo", "ran"], capture_output=True, check=False
            )
            assert ran.stdout == b"ran\n"
        finally:
            cvm("umount", "--force", point, check=False)
