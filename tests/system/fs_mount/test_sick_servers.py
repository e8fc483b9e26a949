"""Damaged, silent and absent servers: no wrong byte, no hang, and the reason is told."""

import errno
import json
import os
import socket
import subprocess
import threading
import time

import pytest


def flip(path, place=None):
    """Damage one bit of a file on the server."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 0x10
    path.write_bytes(data)


def read_error(path):
    """The errno with which reading a whole file ends, 0 if it does not."""
    try:
        with open(path, "rb") as file:
            while file.read(1 << 20):
                pass
    except OSError as error:
        return error.errno
    return 0


def object_of(cvm, path):
    """The first object of a path's content, by `cvm why`."""
    return json.loads(cvm("why", path, "--json").stdout)["objects"][0]["object"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("changed", "file"), ("data/text-20M", "chunk"), ("many/nested/deeper", "catalog")],
)
def test_a_flipped_bit_is_an_error_whose_reason_is_told(
    vectors, mount, point, cvm, home, path, kind
):
    mount(vectors)
    if kind == "catalog":
        catalogs = [p for p in vectors.tree.glob("data/*/*C") if p.stat().st_size]
        for catalog in catalogs:
            flip(catalog)
        with pytest.raises(OSError) as caught:
            os.listdir(point / path)
        assert caught.value.errno == errno.EIO
    else:
        flip(vectors.tree / object_of(cvm, point / path))
        assert read_error(point / path) == errno.EIO

    told = cvm("why", point / path).stdout
    logged = (home.log / "mount-vectors.cernvm.test.log").read_text()
    assert "digest" in told or "damaged" in told
    assert "failure" in told
    assert any(
        row["event"] == "read.failed" and row["path"].startswith("/")
        for row in map(json.loads, logged.splitlines())
    )
    assert os.listdir(point)


@pytest.mark.parametrize("letter", [".cvmfspublished", ".cvmfswhitelist"])
def test_a_flipped_bit_in_a_letter_refuses_the_mount(vectors, mount, letter):
    flip(vectors.tree / letter)

    finished = mount(vectors, check=False)

    assert finished.returncode in range(20, 60), finished.stderr
    assert "Traceback" not in finished.stderr


def test_without_a_server_what_is_cached_is_served_and_the_rest_fails_in_time(
    vectors, mount, point, cvm
):
    mount(vectors, "--reader-deadline", "5")
    content = (point / "changed").read_bytes()
    os.listdir(point / "data")
    vectors.stop()

    begin = time.monotonic()
    assert read_error(point / "data/just-4M") == errno.EIO
    assert time.monotonic() - begin < 7

    begin = time.monotonic()
    subprocess.run(["ls", "-l", point], check=True, capture_output=True)
    subprocess.run(["df", point], check=True, capture_output=True)
    assert time.monotonic() - begin < 1
    assert (point / "changed").read_bytes() == content
    begin = time.monotonic()
    told = cvm("why", point / "data/just-4M").stdout
    assert time.monotonic() - begin < 2
    assert "refused" in told


def test_a_black_hole_costs_the_deadline_and_nobody_else(vectors, mount, point, cvm):
    mount(vectors, "--reader-deadline", "3")
    os.listdir(point / "data")
    vectors.stop()
    with socket.socket() as hole:
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind(("127.0.0.1", vectors.port))
        hole.listen(64)
        ended = []
        readers = [
            threading.Thread(target=lambda: ended.append(read_error(point / "data/just-4M")))
            for _ in range(8)
        ]
        begin = time.monotonic()
        for reader in readers:
            reader.start()
        time.sleep(0.5)
        subprocess.run(["ls", point], check=True, capture_output=True, timeout=1)
        subprocess.run(["df", point], check=True, capture_output=True, timeout=1)
        cvm("why", point / "data/just-4M", timeout=2)
        for reader in readers:
            reader.join(10)
        took_s = time.monotonic() - begin

    assert ended == [errno.EIO] * 8
    assert took_s < 8
    before = time.monotonic()
    cvm("umount", point)
    assert time.monotonic() - before < 3


def test_a_warm_cache_mounts_without_a_server(vectors, mount, point, cvm):
    mount(vectors)
    content = (point / "changed").read_bytes()
    cvm("umount", point)
    vectors.stop()

    mount(vectors)

    assert (point / "changed").read_bytes() == content
    assert read_error(point / "data/just-4M") == errno.EIO


def test_a_new_revision_shows_up_whole_and_open_files_keep_their_content(
    cvm, home, point, tmp_path, vectors
):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_text("old")
    (tree / "sub/gone").write_text("gone")
    cvm("repo", "create", "sft.cernvm.test")
    cvm("repo", "publish", "sft.cernvm.test", tree)
    (vectors.tree / "cvmfs").symlink_to(home.storage)
    url = f"{vectors.url}/cvmfs/sft.cernvm.test"
    cvm("mount", "sft.cernvm.test", point, "--url", url)
    try:
        assert not (point / "new").exists()
        assert os.listdir(point / "sub") == ["gone"]
        with (point / "a").open() as held:
            (tree / "a").write_text("new content")
            (tree / "new").write_text("x")
            (tree / "sub/gone").unlink()
            (tree / "sub/come").write_text("y")
            cvm("repo", "publish", "sft.cernvm.test", tree)

            answer = control(home, {"ask": "remount"})

            assert answer["changed"] is True
            assert (point / "a").read_text() == "new content"
            assert (point / "new").read_text() == "x"
            assert os.listdir(point / "sub") == ["come"]
            assert held.read() == "old"
    finally:
        cvm("umount", "--force", point, check=False)


def control(home, question):
    from cernvm.fs.mount import ask, recorded_mounts

    (record,) = recorded_mounts(home.run)
    return ask(record.socket, question, deadline_s=20)
