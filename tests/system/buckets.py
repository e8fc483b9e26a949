"""Real S3 servers on this machine: s3rver (files, no conditions, anybody may read) and moto (memory, conditions)."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from conftest import missing

BUCKET = "tank"
S3RVER = Path(__file__).parents[2] / ".venv/npm/node_modules/.bin/s3rver"


class BucketServer:
    """A server with one bucket; `kill` and `start` again keep what is on disk (of s3rver)."""

    def __init__(self, kind, folder):
        if kind == "s3rver" and not (S3RVER.exists() and shutil.which("node")):
            missing("s3rver is not installed: make setup")
        self.kind = kind
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._process = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        place = ["-p", str(self.port)]
        command = {
            "s3rver": [S3RVER, "-d", self.folder / "data", "-a", "127.0.0.1", *place, "--configure-bucket", BUCKET],
            "moto": [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", *place],
        }[self.kind]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 20
        while True:
            try:
                # what the servers answer does not matter, and moto makes the bucket by it
                request = urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
            except urllib.error.HTTPError:
                return
            except OSError:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def kill(self):
        self._process.kill()
        self._process.wait()

    def close(self):
        self._process.terminate()
        self._process.wait(10)

    def config(self, path, **more):
        """A private file that says how the bucket is reached."""
        values = {
            "endpoint": self.url,
            "access_key": "S3RVER",
            "secret_key": "S3RVER",
            "addressing": "path",
            **more,
        }
        path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in values.items()))
        os.chmod(path, 0o600)
        return path

    def location(self, path, prefix, **more):
        return f"s3://{BUCKET}/{prefix}?config={self.config(path, **more)}"


def _toml(value):
    return f'"{value}"' if isinstance(value, str) else str(value)
