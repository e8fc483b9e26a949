"""The misbehaving server of the contract suite, and a real one."""

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest

from conftest import missing
from contract.net.conftest import mirror

__all__ = ["mirror", "run_nginx"]


@contextmanager
def run_nginx(folder, *, settings="", location=""):
    """Serves `folder`/www; gives its URL."""
    if shutil.which("nginx") is None:
        missing("nginx is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;
        worker_processes 1; events {{ worker_connections 256; }}
        http {{ access_log off; {settings}
          server {{ listen 127.0.0.1:{port}; root {folder}/www; {location} }}
          client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
          fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; }}"""
    )
    server = subprocess.Popen(["nginx", "-c", config, "-e", folder / "e"])
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("nginx does not listen")
