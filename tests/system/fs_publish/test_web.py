"""Repositories behind real web servers, and what the own one does with difficult clients."""

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from cernvm.fs.publish import serving
from cernvm.fs.publish.serving import RepositoryServer
from cernvm.fs.store.memory import MemoryStore
from conftest import missing

NAME = "t.cernvm.test"
OBJECT = "data/d6/747d09595c52d420faa9d5df4a599138b639a8C"
PAGE = Path(__file__).parents[3] / "docs/how-to/serve.md"


@pytest.fixture
def store(home):
    """A folder that looks like a repository with one big object, and its record."""
    folder = home.storage / NAME
    (folder / OBJECT).parent.mkdir(parents=True)
    (folder / OBJECT).write_bytes(os.urandom(600_000))
    (folder / ".cvmfspublished").write_bytes(b"manifest")
    home.repositories.mkdir()
    record = f'storage = "{folder}"\nkeys = "{home.keys}"\nhash = "sha1"\ncompression = "zlib"\n'
    (home.repositories / f"{NAME}.toml").write_text(record)
    return folder


@pytest.fixture
def served(store):
    with running(RepositoryServer("127.0.0.1", 0, lambda: {NAME: str(store)})) as server:
        yield server.port


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(port, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            method,
            f"/cvmfs/{NAME}/{path}",
            headers={k.replace("_", "-"): v for k, v in headers.items()},
        )
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def check_served(port, store):
    """What every server of a repository has to do."""
    content = (store / OBJECT).read_bytes()
    status, headers, body = ask(port, OBJECT)
    assert (status, body) == (200, content)
    assert headers["Cache-Control"] == "max-age=259200, immutable"
    assert headers["Content-Type"] == "application/octet-stream"
    assert "Content-Encoding" not in headers
    assert ask(port, OBJECT, If_None_Match=headers["ETag"])[0] == 304
    assert ask(port, OBJECT, If_Modified_Since=headers["Last-Modified"])[0] == 304
    status, headers, body = ask(port, OBJECT, Range="bytes=100-199")
    assert (status, body) == (206, content[100:200])
    assert headers["Content-Range"] == "bytes 100-199/600000"
    status, headers, body = ask(port, OBJECT, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "600000", b"")
    status, headers, body = ask(port, ".cvmfspublished", Accept_Encoding="gzip")
    assert (status, headers["Cache-Control"], body) == (200, "max-age=61", b"manifest")
    for path in (
        "data/txn/publisher.lock",
        "data/",
        "",
        "../../keys/x",
        "%2e%2e/%2e%2e/keys/x",
        "data/00/" + "0" * 38,
    ):
        assert ask(port, path)[0] in (400, 403, 404), path


def test_the_own_server(served, store):
    check_served(served, store)


def test_a_store_that_is_no_folder_is_served_alike(store):
    kept = MemoryStore()
    kept.put(OBJECT, b"0123456789")
    with running(
        RepositoryServer("127.0.0.1", 0, dict, opened=lambda name: kept if name == NAME else None)
    ) as server:
        status, headers, body = ask(server.port, OBJECT)
        assert (status, body) == (200, b"0123456789")
        assert headers["ETag"] == '"d6747d09595c52d420faa9d5df4a599138b639a8"'
        assert ask(server.port, OBJECT, If_None_Match=headers["ETag"])[0] == 304
        assert ask(server.port, OBJECT, Range="bytes=-4")[2] == b"6789"
        assert ask(server.port, OBJECT, "HEAD")[1]["Content-Length"] == "10"


def test_a_head_that_never_ends_is_cut_off(served, monkeypatch):
    monkeypatch.setattr(serving, "HEAD_TIMEOUT_S", 0.5)
    with socket.create_connection(("127.0.0.1", served), timeout=10) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        try:
            while (
                time.monotonic() < began + 8
            ):  # a byte now and then keeps other servers waiting for ever
                slow.sendall(b"X")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() < began + 5


def test_the_next_request_has_time_of_its_own(served, monkeypatch):
    monkeypatch.setattr(serving, "HEAD_TIMEOUT_S", 0.5)
    connection = http.client.HTTPConnection("127.0.0.1", served, timeout=10)
    for _ in range(3):
        connection.request("GET", f"/cvmfs/{NAME}/.cvmfspublished")
        assert connection.getresponse().read() == b"manifest"
        time.sleep(0.6)
    connection.close()


def test_it_speaks_tls(store, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = RepositoryServer("127.0.0.1", 0, lambda: {NAME: str(store)}, tls=context)
    with running(server):
        with socket.create_connection(("127.0.0.1", server.port)) as rude:
            rude.sendall(b"GET / HTTP/1.0\r\n\r\n")
        trusting = ssl.create_default_context(cafile=str(certificate))
        url = f"https://localhost:{server.port}/cvmfs/{NAME}/{OBJECT}"
        with urllib.request.urlopen(url, context=trusting, timeout=10) as answer:
            assert answer.read() == (store / OBJECT).read_bytes()


@pytest.fixture
def uvicorn(store, home):
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "cernvm.fs.replicate.asgi:app", "--port", str(port)]
    with server(command, port, env={**os.environ, "CVM_HOME": str(home.path)}):
        yield port


def test_the_application_under_uvicorn(uvicorn, store):
    check_served(uvicorn, store)
    assert ask(uvicorn, OBJECT, "POST")[0] == 405


def test_the_application_behind_nginx(uvicorn, store, tmp_path):
    block = sample("nginx", 1).replace("127.0.0.1:8001", f"127.0.0.1:{uvicorn}")
    with nginx(block, tmp_path) as port:
        check_served(port, store)


def test_nginx_as_the_page_says(store, home, tmp_path):
    block = sample("nginx", 0).replace("/var/lib/cernvm/srv", str(home.storage))
    with nginx(block, tmp_path) as port:
        check_served(port, store)


def test_apache_as_the_page_says(store, home, tmp_path):
    apache = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
    if apache is None:
        missing("apache2 is not installed: make setup")
    port = free_port()
    block = sample("apache", 0).replace("/var/lib/cernvm/srv", str(home.storage))
    modules = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
        for name in ("mpm_event", "alias", "headers", "authz_core")
    )
    (tmp_path / "apache.conf").write_text(
        f"ServerRoot {tmp_path}\nServerName localhost\nPidFile apache.pid\nErrorLog apache.log\n{modules}"
        f"Listen 127.0.0.1:{port}\n" + block.replace("*:80", f"127.0.0.1:{port}")
    )
    with readable(tmp_path), server([apache, "-f", tmp_path / "apache.conf", "-DFOREGROUND"], port):
        check_served(port, store)


def sample(language, number):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)[number]


@contextmanager
def nginx(block, folder):
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        missing("nginx is not installed: make setup")
    port = free_port()
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    block = block.replace("listen 80", f"listen 127.0.0.1:{port}")
    user = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}pid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\ndaemon off;\nmaster_process off;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{block}}}\n"
    )
    with server([program, "-c", folder / "nginx.conf", "-e", folder / "nginx.log"], port):
        yield port


@contextmanager
def server(command, port, **more):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)


@contextmanager
def readable(folder):
    """Apache's children have another user, who may not look into pytest's folders."""
    changed = []
    for above in [folder, *folder.parents]:
        mode = above.stat().st_mode & 0o7777
        if not mode & 0o001:
            changed.append((above, mode))
            above.chmod(mode | 0o001)
    try:
        yield
    finally:
        for above, mode in changed:
            above.chmod(mode)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
