"""Repositories by the original program, unpacked and served by nginx, for the tests of several rooms."""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import missing

VECTORS = Path(__file__).parents[1] / "vectors"


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


def serve_sample(name, folder):
    """Unpack a sample below `folder` and serve it; whoever calls stops it."""
    source = sample(name)
    if source is None:
        pytest.skip(f"{name}: name its folder in CVM_SAMPLE_REPOS")
    tree = folder / "tree"
    tree.mkdir(parents=True)
    subprocess.run(["tar", "xzf", source / "tree.tar.gz", "-C", tree], check=True)
    key = source / "keys" / f"{name}.pub"
    return serve_tree(name, tree, key=key, listing=source / "listing.jsonl")


def serve_tree(name, tree, *, key=None, listing=None, rules=""):
    """Serve a folder, whose parent is ours; `rules` are more lines of nginx's server block."""
    if shutil.which("nginx") is None:
        missing("nginx is not installed")
    folder = tree.parent
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;
        worker_processes 1; events {{ worker_connections 256; }}
        http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {tree}; {rules} }}
          client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
          fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; }}"""
    )
    served = Served(
        name,
        tree,
        f"http://127.0.0.1:{port}",
        key,
        listing,
        port,
        config,
    )
    served.start()
    return served


def sample(name):
    """Where a sample repository lies, or None."""
    folders = [VECTORS, *(Path(f) for f in [os.environ.get("CVM_SAMPLE_REPOS", "")] if f)]
    return next((f / name for f in folders if (f / name / "tree.tar.gz").exists()), None)
