"""Counters of all mounts, for people, programs and scrapers."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cernvm.core.home import ensure_folder
from cernvm.fs.mount.metrics import FAMILIES
from conftest import CVM

SAMPLE = re.compile(r'(cvmfs_[a-z_]+)\{repo="([^"]*)",mountpoint="([^"]*)"\} (-?[0-9.e+-]+)')


@pytest.fixture
def serving(home):
    """Run `cvm metrics --serve`."""
    started = []

    def serve(address):
        process = subprocess.Popen(
            [CVM, "metrics", "--serve", address], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "CVM_HOME": str(home.path)},
        )  # fmt: skip
        started.append(process)
        assert process.stderr.readline().startswith("serving")

    yield serve
    for process in started:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        process.stderr.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_every_mount_is_a_sample_of_every_family(vectors, mount, point, cvm):
    mount(vectors)
    text = cvm("metrics").stdout
    assert text.endswith("# EOF\n")
    samples = {match[1]: match for line in text.splitlines() if (match := SAMPLE.fullmatch(line))}
    expected = {f"{f.name}_total" if f.kind == "counter" else f.name for f in FAMILIES}
    assert set(samples) == expected
    assert {(match[2], match[3]) for match in samples.values()} == {(vectors.name, str(point))}
    assert samples["cvmfs_up"][4] == "1"
    assert samples["cvmfs_revision"][4] == "3"
    assert float(samples["cvmfs_requests_total"][4]) > 0
    described = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(described) == len(set(described)) == len(FAMILIES)


def test_counters_count(vectors, mount, point, cvm):
    mount(vectors)
    (before,) = json.loads(cvm("metrics", "--json").stdout)
    subprocess.run(["cat", point / "data/random-200k"], check=True, capture_output=True)
    (after,) = json.loads(cvm("metrics", "--json").stdout)
    assert after["cvmfs_received_bytes"] >= before["cvmfs_received_bytes"]
    assert after["cvmfs_received_bytes"] > 200_000
    assert after["cvmfs_io_errors"] == 0


def test_a_scraper_is_answered_at_an_address_and_at_a_path(vectors, mount, serving, tmp_path):
    mount(vectors)
    port, path = free_port(), tmp_path / "metrics.sock"
    serving(f"127.0.0.1:{port}")
    serving(str(path))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type").startswith("application/openmetrics-text")
    body = answer.read().decode()
    assert 'cvmfs_up{repo="vectors.cernvm.test"' in body
    connection.request("GET", "/etc/passwd")
    assert connection.getresponse().status == 404
    connection.close()
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(10)
        channel.connect(str(path))
        channel.sendall(b"GET / HTTP/1.0\r\n\r\n")
        received = b""
        while part := channel.recv(65536):
            received += part
        assert received.decode().endswith("# EOF\n")


def test_counters_are_for_this_machine_only(cvm):
    for address in ("0.0.0.0:9868", "[::1]:9868", "127.0.0.1:99999"):
        refused = cvm("metrics", "--serve", address, check=False)
        assert "no loopback address" in refused.stderr


def test_a_socket_where_somebody_listens_or_that_cannot_be_made_is_refused(cvm, serving, tmp_path):
    path = tmp_path / ("long-" * 20) / "metrics.sock"
    path.parent.mkdir()
    serving(str(path))
    taken = cvm("metrics", "--serve", str(path), check=False)
    assert "listens" in taken.stderr
    assert path.is_socket()
    nowhere = cvm("metrics", "--serve", str(tmp_path / "none/metrics.sock"), check=False)
    assert "none/metrics.sock cannot be listened at" in nowhere.stderr


def test_twenty_silent_mounts_cost_a_scrape_one_second(home, cvm):
    """A process that listens and says nothing stands for each."""
    folder = ensure_folder(home.run / "mounts")
    listeners = []
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    for number in range(20):
        listener = socket.socket(socket.AF_UNIX)
        address = folder / f"{number}.sock"
        here = os.open(folder, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/{number}.sock")
        os.close(here)
        listener.listen()
        listeners.append(listener)
        row = {
            "pid": os.getpid(), "started": started, "what": "mount", "address": str(address),
            "repository": f"r{number}.test", "point": f"/mnt/{number}", "device": "0:1",
        }  # fmt: skip
        (folder / f"{number:016x}.json").write_text(json.dumps(row))
    began = time.monotonic()
    text = cvm("metrics").stdout
    took_s = time.monotonic() - began
    for listener in listeners:
        listener.close()
    assert text.count("cvmfs_up{") == 20
    assert "} 1\n" not in text
    assert took_s < 5
