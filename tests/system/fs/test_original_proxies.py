"""The original client and ours spread objects over the same proxies, so that old and new machines may share them."""

import shutil
import tempfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cernvm.net.sharding import choose, shard_key

PROXIES = 3


def make_proxy():
    """A proxy that forwards whatever it is asked for, and remembers it."""

    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.server.asked.append(urlsplit(self.path).path)
            try:
                with urllib.request.urlopen(self.path, timeout=10) as answer:
                    status, body = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, body = error.code, b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    server.daemon_threads = True
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def proxies():
    made = {}
    for _ in range(PROXIES):
        server = make_proxy()
        made[f"http://127.0.0.1:{server.server_port}"] = server
    yield made
    for server in made.values():
        server.shutdown()
        server.server_close()


def test_both_clients_find_each_object_at_the_same_proxy(both, original, proxies):
    base = Path(tempfile.mkdtemp(dir=both.base))
    point = base / "mount"
    point.mkdir()
    original.mount(
        point,
        url=both.url,
        key=both.key,
        cache=base / "cache",
        settings=f"CVMFS_HTTP_PROXY='{'|'.join(proxies)}'\nCVMFS_PROXY_SHARD=yes\n",
    )
    try:
        for file in sorted((point / "many").rglob("f*")):
            file.read_bytes()
    finally:
        original.unmount(point)
        shutil.rmtree(base, ignore_errors=True)

    asked = {
        path: url for url, server in proxies.items() for path in server.asked if "/data/" in path
    }
    expected = {path: choose(tuple(proxies), shard_key(path)) for path in asked}
    assert len(asked) > 250
    assert asked == expected
