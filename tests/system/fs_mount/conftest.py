"""Repositories by the original program behind nginx, and `cvm mount` of them."""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import missing

VECTORS = Path(__file__).parents[2] / "vectors"


@dataclass
class Served:
    """A repository's folder, the URL that exports it, and the server's process."""

    name: str
    tree: Path
    url: str
    key: Path
    listing: Path
    port: int
    config: Path
    server: subprocess.Popen = None

    def start(self):
        self.server = subprocess.Popen(["nginx", "-c", self.config, "-e", self.config.parent / "e"])
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        pytest.fail("nginx does not listen")

    def stop(self):
        if self.server is not None:
            self.server.terminate()
            self.server.wait(10)
            self.server = None


def sample(name):
    """Where a sample repository lies, or None."""
    folders = [VECTORS, *(Path(f) for f in [os.environ.get("CVM_SAMPLE_REPOS", "")] if f)]
    return next((f / name for f in folders if (f / name / "tree.tar.gz").exists()), None)


@pytest.fixture
def serve(tmp_path):
    """Unpack a sample and serve it."""
    started = []

    def make(name):
        source = sample(name)
        if source is None:
            pytest.skip(f"{name}: name its folder in CVM_SAMPLE_REPOS")
        if shutil.which("nginx") is None:
            missing("nginx is not installed")
        folder = tmp_path / f"srv-{name}"
        tree = folder / "tree"
        tree.mkdir(parents=True)
        subprocess.run(["tar", "xzf", source / "tree.tar.gz", "-C", tree], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(
            f"""daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;
            worker_processes 1; events {{ worker_connections 256; }}
            http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {tree}; }}
              client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
              fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; }}"""
        )
        served = Served(
            name,
            tree,
            f"http://127.0.0.1:{port}",
            source / "keys" / f"{name}.pub",
            source / "listing.jsonl",
            port,
            config,
        )
        served.start()
        started.append(served)
        return served

    yield make
    for served in started:
        served.stop()


@pytest.fixture
def vectors(serve):
    return serve("vectors.cernvm.test")


@pytest.fixture
def point(tmp_path, need_fuse):
    folder = tmp_path / "mnt"
    folder.mkdir()
    return folder


@pytest.fixture
def mount(cvm, point):
    """Run `cvm mount` on a served repository; unmounted at the end whatever happened."""

    def run(served, *options, **settings):
        return cvm(
            "mount", served.name, point, "--url", served.url, "--public-key", served.key,
            *options, **settings,
        )  # fmt: skip

    yield run
    cvm("umount", "--force", point, check=False)
