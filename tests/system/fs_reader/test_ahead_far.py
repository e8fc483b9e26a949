"""Reading ahead over real sockets: nginx behind a relay that stands for a far, narrow link."""

import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from attack.fs_reader.forge import MASTER_KEY, NAME, NOW, CatalogMaker, Forge, directory, public
from cernvm.core.clock import Deadline, FakeClock
from cernvm.fs.cache import MemoryBreadcrumbs, MemoryCache
from cernvm.fs.format.pack_table import packing_key
from cernvm.fs.reader import open_repository
from cernvm.fs.reader.settings import NOTHING_AHEAD, AheadSettings
from cernvm.fs.vfs import ROOT_INODE, View
from cernvm.net import NetSettings, open_fetcher
from conftest import missing

RELAY = Path(__file__).parents[3] / "bench/relay.py"
RTT_S = 0.02


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What nginx serves: 600 small files in 3 directories, packed, of which one lies, and bytes that hardly shrink."""
    forge = Forge()
    entries, content = {}, {}
    source = random.Random(1)
    for name in (b"a", b"b", b"c"):
        entries[b"/" + name] = directory(name)
        for number in range(200):
            path = b"/%b/f%03d" % (name, number)
            content[path] = source.randbytes(4000)
            entries[path] = forge.file(path.rpartition(b"/")[2], content[path])
    maker = CatalogMaker(entries=entries)
    stretches = []
    for name in (b"/a/", b"/b/", b"/c/"):
        paths = sorted((path for path in content if path.startswith(name)), key=packing_key)
        stretches.append([(path, content[path]) for path in paths])
    path, data = stretches[2][50]
    stretches[2][50] = (path, data, b"this is another object")
    forge.packed(maker, *stretches)
    forge.publish(maker)
    target = tmp_path_factory.mktemp("www")
    for path, document in forge.documents.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(document)
    return target, content


@pytest.fixture(scope="module")
def nginx(folder, tmp_path_factory):
    if not shutil.which("nginx"):
        missing("nginx is not installed")
    place, port = tmp_path_factory.mktemp("nginx"), free_port()
    temporary = "".join(
        f"{kind}_temp_path {place}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (place / "conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''} daemon off; pid {place}/pid; events {{}} "
        f"http {{ access_log {place}/access; keepalive_requests 100000; {temporary}"
        f" server {{ listen 127.0.0.1:{port}; root {folder[0]}; }} }}"
    )
    process = subprocess.Popen(
        ["nginx", "-c", place / "conf", "-e", place / "error"], stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port)
        yield port, place / "access"
    finally:
        process.terminate()
        process.wait(10)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port):
    ends = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < ends, "nginx never listened"
            time.sleep(0.02)


@contextmanager
def relayed(port, mbit):
    relay = subprocess.Popen(
        [sys.executable, RELAY, str(port), "--delay-ms", str(RTT_S * 500), "--mbit", str(mbit)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield int(relay.stdout.readline())
    finally:
        relay.terminate()
        relay.wait(10)
        relay.stdout.close()


@contextmanager
def mounted(port, settings):
    fetcher = open_fetcher(NetSettings(f"http://127.0.0.1:{port}"), NAME)
    clock = FakeClock(NOW)
    repository = open_repository(
        NAME,
        fetcher=fetcher,
        cache=MemoryCache(),
        breadcrumbs=MemoryBreadcrumbs(),
        master_keys=[public(MASTER_KEY)],
        deadline=Deadline.after(20),
        ahead=settings,
        clock=clock,
    )
    try:
        yield View(repository, variables={})
    finally:
        repository.close()
        fetcher.close()


def read(view, path):
    inode = ROOT_INODE
    for name in path.split(b"/")[1:]:
        inode = view.lookup(inode, name, Deadline.after(20)).inode
    return view.read(inode, 0, 1 << 20, Deadline.after(20))


def timed(view, path):
    began = time.monotonic()
    read(view, path)
    return time.monotonic() - began


def packs_asked(log):
    return [line.split()[6] for line in log.read_text().splitlines() if "K HTTP" in line]


def test_a_directory_from_far_takes_a_few_round_trips(folder, nginx):
    paths = [path for path in folder[1] if path.startswith(b"/a/")]
    with relayed(nginx[0], 0) as port, mounted(port, AheadSettings()) as view:
        began = time.monotonic()
        for path in paths:
            assert read(view, path) == folder[1][path]
        took_s = time.monotonic() - began
    assert took_s < len(paths) * RTT_S / 4


def test_a_lying_pack_is_asked_for_once_and_nothing_wrong_is_read(folder, nginx):
    port, log = nginx
    before = len(packs_asked(log))
    paths = [path for path in folder[1] if path.startswith(b"/c/")]
    with mounted(port, AheadSettings(read_ahead=True)) as view:
        for _ in range(2):
            for path in paths:
                assert read(view, path) == folder[1][path]
        failed = view.repository.ahead.counters()["ways"]["pack"]["failed"]
        assert view.repository.fetcher.traffic.failures == 0
    packs = packs_asked(log)[before:]
    assert failed == 1
    assert len(set(packs)) == len(packs) >= 1


def test_who_reads_elsewhere_hardly_feels_what_is_fetched_ahead(folder, nginx):
    """Single files of one directory, on a link that packs of two others fill meanwhile."""
    with relayed(nginx[0], 20) as port:
        paths = [path for path in folder[1] if path.startswith(b"/b/")][:12]
        with mounted(port, NOTHING_AHEAD) as view:
            alone_s = statistics.median(timed(view, path) for path in paths)
        with mounted(port, AheadSettings(packs=False)) as view:
            read(view, b"/a/f000")
            read(view, b"/c/f000")
            beside_s = statistics.median(timed(view, path) for path in paths)
            fetched = view.repository.ahead.counters()["ways"]["directory"]["fetched"]
    assert fetched > 20
    assert beside_s < 3 * alone_s + 0.01
