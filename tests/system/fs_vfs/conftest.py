"""Sample repositories, served by nginx on loopback and opened through the real fetcher and cache."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cernvm.core.clock import Deadline
from cernvm.fs.cache import DiskBreadcrumbs, DiskCache
from cernvm.fs.reader import open_repository
from cernvm.fs.vfs import View
from cernvm.net import Chain, ChainFetcher, HttpExchange
from conftest import missing

VECTORS = Path(__file__).parents[2] / "vectors"
NAMES = ("vectors.cernvm.test", "sample.cernvm.test", "shake.cernvm.test")


def sample(name):
    """Where a sample repository lies, or None."""
    folders = [VECTORS, *(Path(f) for f in [os.environ.get("CVM_SAMPLE_REPOS", "")] if f)]
    return next((f / name for f in folders if (f / name / "tree.tar.gz").exists()), None)


@pytest.fixture(scope="session", params=NAMES)
def served(request, tmp_path_factory):
    """(name, URL, folder of the sample) of an unpacked repository behind nginx."""
    source = sample(request.param)
    if source is None:
        pytest.skip(f"{request.param}: name its folder in CVM_SAMPLE_REPOS")
    if shutil.which("nginx") is None:
        missing("nginx is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "tree").mkdir()
    subprocess.run(["tar", "xzf", source / "tree.tar.gz", "-C", folder / "tree"], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;
        worker_processes 1; events {{ worker_connections 64; }}
        http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {folder}/tree; }}
          client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
          uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; }}"""
    )
    server = subprocess.Popen(["nginx", "-c", config, "-e", folder / "error.log"])
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield request.param, f"http://127.0.0.1:{port}", source
    server.terminate()
    server.wait(10)


@pytest.fixture
def view(served, tmp_path):
    """The repository as a file system, with an empty cache."""
    name, url, source = served
    exchange = HttpExchange()
    cache = DiskCache(tmp_path / "cache", quota_bytes=1 << 30)
    repository = open_repository(
        name,
        fetcher=ChainFetcher(Chain((url,)), exchange),
        cache=cache,
        breadcrumbs=DiskBreadcrumbs(tmp_path / "cache"),
        master_keys=[(source / "keys" / f"{name}.pub").read_bytes()],
        deadline=Deadline.after(20),
    )
    yield View(repository, variables={})
    exchange.close()
    cache.close()
