"""The original's commands: by its own program, by ours, and from ours to the original's client."""

import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cernvm.fs.mount.talk_client import short_name
from conftest import missing

ORIGINAL = os.environ.get("CVMFS_ORIGINAL", "")


@pytest.fixture
def original():
    """Run a program of the original; returns its output."""
    if not ORIGINAL:
        pytest.skip("CVMFS_ORIGINAL names no original client")
    if not Path(ORIGINAL, "bin/cvmfs_talk").exists():
        missing(f"{ORIGINAL}/bin/cvmfs_talk")
    library = f"{ORIGINAL}/lib"

    def run(program, *arguments):
        return subprocess.run(
            [f"{ORIGINAL}/bin/{program}", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "LD_LIBRARY_PATH": library, "CVMFS_LIBRARY_PATH": library},
            check=False,
        )

    return run


def say(path, command):
    with socket.socket(socket.AF_UNIX) as channel, short_name(path) as name:
        channel.settimeout(20)
        channel.connect(name)
        channel.sendall(command)
        parts = []
        while part := channel.recv(65536):
            parts.append(part)
        return b"".join(parts).decode()


@pytest.fixture
def talk(vectors, mount, home):
    mount(vectors)
    path = home.run / "talk/cvmfs_io.vectors.cernvm.test"
    return lambda command: say(path, command.encode())


def test_a_command_is_answered_in_the_original_s_words(talk, point, cvm, vectors):
    assert talk("revision") == "3\n"
    assert talk("mountpoint") == f"{point}\n"
    assert talk("remount") == "Catalog up to date\n"
    assert talk("remount sync") == "Catalog up to date\n"
    size = r"Current cache size is 0MB \(\d+ Bytes\), pinned: 0MB \(\d+ Bytes\)\n"
    assert re.fullmatch(size, talk("cache size"))
    assert re.fullmatch(r"\d+:\d+\n", talk("device id"))
    assert f"  [0] {vectors.url}\n" in talk("host info")
    assert "CVMFS_FQRN=vectors.cernvm.test\n" in talk("parameters")
    assert talk("open catalogs") == "-> /\n"
    assert talk("internal affairs").startswith("Name|Value|Description\n")
    assert talk("metrics prometheus").endswith("# EOF\n")
    assert talk("version patchlevel\0") == "0\n"
    assert talk("revision\n") == "3\n"
    assert talk("bogus") == "unknown command\n"
    assert talk("revision 7") == "unknown command\n"
    assert talk("evict") == "Usage: evict <path>\n"


def test_hosts_and_proxies_are_switched_and_set_by_hand(talk, vectors):
    assert talk("host probe").startswith(f"  [0] {vectors.url} (")
    assert talk("host switch") == "OK\n"
    assert talk(f"host set http://127.0.0.1:9/x;{vectors.url}") == "OK\n"
    assert "  [0] http://127.0.0.1:9/x\n" in talk("host info")
    assert talk("host set ftp://x").startswith("Failed: ")
    assert talk("proxy set http://127.0.0.1:9;DIRECT") == "OK\n"
    assert talk("proxy info").startswith("Load-balance groups:\n[0] http://127.0.0.1:9")
    assert talk("proxy group switch") == "OK\n"
    assert talk("proxy info").endswith("Active proxy: DIRECT\n")
    assert talk("proxy fallback http://127.0.0.1:8") == "OK\n"
    groups = "[0] http://127.0.0.1:9\n[1] http://127.0.0.1:8\n"
    assert talk("proxy info").startswith(f"Load-balance groups:\n{groups}")
    assert talk("proxy set http://127.0.0.1:7") == "OK\n"
    assert talk("proxy info").startswith(f"Load-balance groups:\n{groups.replace(':9', ':7')}")
    assert "CVMFS_HTTP_PROXY=http://127.0.0.1:7\n" in talk("parameters")
    assert talk("max ttl set 5") == "OK\n"
    assert talk("max ttl info") == "5 minutes\n"
    assert talk("timeout info") == "Timeout with proxy: 5s\nTimeout without proxy: 10s\n"


def test_a_file_is_pinned_and_evicted_by_its_path(talk, point, vectors):
    read = ["cat", point / "data/random-200k"]
    assert talk("pin /data/random-200k") == "OK\n"
    vectors.stop()
    assert len(subprocess.run(read, capture_output=True, timeout=60, check=True).stdout) == 200_000
    assert talk("evict data/random-200k") == "OK\n"
    assert talk("evict /misc") == "No such regular file\n"
    assert talk("pin /nope") == "No such regular file or pinning failed\n"
    assert talk("pin /no/../../../etc/passwd") == "No such regular file or pinning failed\n"
    assert talk("pin /data/random-200k").startswith("Failed: ")


def test_the_answers_of_cvm_talk_are_those_of_the_socket(talk, cvm, point, home):
    assert cvm("talk", "vectors.cernvm.test", "revision").stdout == "3\n"
    assert cvm("talk", point / "data", "mountpoint").stdout == f"{point}\n"
    path = home.run / "talk/cvmfs_io.vectors.cernvm.test"
    assert cvm("talk", "--socket", path, "cache", "limit", "get").stdout == talk("cache limit get")
    assert cvm("talk", "other.cernvm.test", "revision", check=False).returncode != 0


def test_the_socket_goes_with_the_mount(talk, home, cvm, point):
    cvm("umount", point)
    assert list((home.run / "talk").iterdir()) == []


def test_a_socket_that_a_killed_mount_left_is_replaced(talk, home, cvm, point, vectors, mount):
    path = home.run / "talk/cvmfs_io.vectors.cernvm.test"
    cvm("umount", point)
    with socket.socket(socket.AF_UNIX) as left, short_name(path) as name:
        left.bind(name)
    mount(vectors)
    assert say(path, b"revision") == "3\n"


def test_what_is_no_socket_of_ours_is_never_replaced(vectors, mount, home, cvm):
    path = home.run / "talk/cvmfs_io.vectors.cernvm.test"
    path.parent.mkdir(parents=True)
    path.symlink_to(home.path / "precious")
    (home.path / "precious").write_text("data")
    mount(vectors)
    assert (home.path / "precious").read_text() == "data"
    assert path.is_symlink()
    assert cvm("talk", "vectors.cernvm.test", "revision").stdout == "3\n"


def test_another_user_may_look_but_not_change(talk, home):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    path = home.run / "talk/cvmfs_io.vectors.cernvm.test"
    script = f"""
import os, socket
with socket.socket(socket.AF_UNIX) as channel:
    directory = os.open({str(path.parent)!r}, os.O_PATH)
    os.setgid(0); os.setgroups([0]); os.setuid(65534)
    for command in (b"revision", b"cleanup 0", b"remount"):
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(f"/proc/self/fd/{{directory}}/{path.name}")
            channel.sendall(command)
            print(channel.recv(4096).decode(), end="")
"""
    shown = subprocess.run(
        ["python3", "-c", script], capture_output=True, text=True, timeout=20, check=False
    )
    first, *others = shown.stdout.splitlines()
    assert first == "3", shown.stderr
    assert len(others) == 2
    assert all(line.startswith("Failed: only who mounted") for line in others)


def test_a_client_that_says_nothing_does_not_keep_others_waiting(talk, home):
    path = home.run / "talk/cvmfs_io.vectors.cernvm.test"
    silent = [socket.socket(socket.AF_UNIX) for _ in range(7)]
    try:
        for each in silent:
            with short_name(path) as name:
                each.connect(name)
        assert talk("revision") == "3\n"
    finally:
        for each in silent:
            each.close()


def test_the_original_s_program_understands_our_mount(talk, original, home, point):
    path = home.run / "talk/cvmfs_io.vectors.cernvm.test"
    for words, expected in [
        (("revision",), "3\n"),
        (("mountpoint",), f"{point}\n"),
        (("pin", "/data/random-200k"), "OK\n"),
        (("max", "ttl", "info"), "unset\n"),
    ]:
        shown = original("cvmfs_talk", "-p", path, *words)
        assert (shown.returncode, shown.stdout) == (0, expected)


def test_ours_understands_the_original_s_client(vectors, original, point, tmp_path, cvm):
    config = tmp_path / "client.conf"
    config.write_text(
        f"""CVMFS_SERVER_URL='{vectors.url}'\nCVMFS_HTTP_PROXY=DIRECT
CVMFS_PUBLIC_KEY={vectors.key}\nCVMFS_CACHE_BASE={tmp_path}/c\nCVMFS_RELOAD_SOCKETS={tmp_path}/r
CVMFS_USYSLOG={tmp_path}/log\nCVMFS_CONFIG_REPOSITORY=\n"""
    )
    (tmp_path / "r").mkdir()
    (tmp_path / "c").mkdir()
    mounted = original("cvmfs2", "-o", f"config={config}", vectors.name, point)
    assert mounted.returncode == 0, mounted.stderr
    try:
        (path,) = tmp_path.glob("c/*/cvmfs_io.*")
        assert cvm("talk", "--socket", path, "revision").stdout == "3\n"
        assert cvm("talk", "--socket", path, "cache size").stdout.startswith("Current cache size")
    finally:
        subprocess.run(["umount", point], check=True, timeout=20)


def test_the_next_process_of_a_mount_listens_where_the_last_one_did(talk, cvm, point, home):
    before = talk("pid")
    cvm("remount", "--reload", point)
    end = time.monotonic() + 10
    while talk("pid") == before and time.monotonic() < end:
        time.sleep(0.1)
    assert talk("pid") != before
    assert talk("mountpoint") == f"{point}\n"
