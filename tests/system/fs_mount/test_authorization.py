"""A protected repository: a helper decides, its verdict holds for a session, and a sick one costs a bounded time."""

import contextlib
import http.server
import json
import os
import signal
import ssl
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attack.fs_reader.forge import MASTER_KEY, NAME, CatalogMaker, Forge, public
from cernvm.fs.format.statistics import Statistics, format_statistics

HELPER = """#!{python}
import base64, json, os, struct, sys, time
def receive():
    head = sys.stdin.buffer.read(8)
    if len(head) < 8: sys.exit(0)
    version, length = struct.unpack("=II", head)
    assert version == 1
    return json.loads(sys.stdin.buffer.read(length))["cvmfs_authz_v1"]
def send(**row):
    data = json.dumps({{"cvmfs_authz_v1": dict(row, revision=0)}}).encode()
    sys.stdout.buffer.write(struct.pack("=II", 1, len(data)) + data)
    sys.stdout.buffer.flush()
policy = json.load(open({policy!r}))
assert receive()["msgid"] == 0
if policy.get("mute"): time.sleep(600)
send(msgid=1)
while True:
    asked = receive()
    if asked["msgid"] == 4: sys.exit(0)
    policy = json.load(open({policy!r}))
    asked["membership"] = base64.b64decode(asked["membership"]).decode()
    with open({log!r}, "a") as log: log.write(json.dumps(asked) + "\\n")
    if policy.get("hang"): time.sleep(600)
    if policy.get("lie"): sys.stdout.buffer.write(b"x" * 65536); sys.stdout.buffer.flush(); continue
    if policy.get("die"): os._exit(1)
    answer = dict(msgid=3, status=0 if asked["uid"] in policy["uids"] else 3, ttl=policy.get("ttl", 120))
    if "token" in policy: answer["bearer_token"] = base64.b64encode(policy["token"].encode()).decode()
    send(**answer)
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Helper:
    """A helper program, and what it was asked."""

    def __init__(self, folder):
        self.program = folder / "helper"
        self._policy, self._log = folder / "policy", folder / "asked"
        text = HELPER.format(python=sys.executable, policy=str(self._policy), log=str(self._log))
        self.program.write_text(text)
        self.program.chmod(0o755)
        self.decide(uids=[os.geteuid()])

    def decide(self, **policy):
        self._policy.write_text(json.dumps({"uids": [], **policy}))

    @property
    def asked(self):
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture
def helper(tmp_path):
    return Helper(tmp_path)


@pytest.fixture
def serve(tmp_path):
    """Serve a protected repository; with a `token`, files over https to who has it."""
    started = []
    forge = Forge()
    file, other = forge.file(b"file", b"secret"), forge.file(b"other", b"other")
    revision = iter(range(1, 100))

    def protect(is_protected):
        """Publish the next revision."""
        root = CatalogMaker(
            b"",
            {b"/file": file, b"/other": other},
            spoil=[
                ("INSERT INTO statistics VALUES (?, 0)", row[:1])
                for row in format_statistics(Statistics())
            ],
            ttl_s=1,
        )
        if is_protected:
            root.spoil.append("INSERT INTO properties VALUES ('voms_authz', 'test%/members')")
        now = datetime.now(UTC)
        forge.publish(
            root, revision=next(revision), published_at=now, expires_at=now + timedelta(days=30)
        )

    protect(True)

    class Answer(http.server.BaseHTTPRequestHandler):
        token = None

        def do_GET(self):
            path = self.path.removeprefix("/")
            body = forge.documents.get(path)
            is_file = path.startswith("data/") and path[-1] not in "CXH"
            allowed = self.headers["Authorization"] == f"Bearer {self.token}" or not self.token
            if body is None or (is_file and not allowed):
                self.send_error(404 if body is None else 403)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    def start(token=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        started.append(server)
        Answer.token = token
        if token:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls(tmp_path))
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http{'s' if token else ''}://localhost:{server.server_address[1]}"

    start.protect = protect
    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def tls(folder):
    """A certificate for localhost, in one file with its key."""
    path = folder / "tls.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "tls.key",
         "-out", path, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + (folder / "tls.key").read_bytes())
    return path


@pytest.fixture
def mounted(serve, helper, point, cvm, tmp_path):
    """Mount as /etc/cvmfs says."""
    etc = tmp_path / "etc"
    etc.mkdir()
    (tmp_path / "key.pub").write_bytes(public(MASTER_KEY))

    def mount(token=None, **environment):
        (etc / "default.conf").write_text(
            f"""CVMFS_SERVER_URL={serve(token)}
CVMFS_HTTP_PROXY=DIRECT
CVMFS_PUBLIC_KEY={tmp_path}/key.pub
CVMFS_AUTHZ_HELPER={helper.program}
"""
        )
        script = f"""
import os, sys
from pathlib import Path, PurePosixPath
from cernvm.core.home import Home
from cernvm.fs.parameters import configured_settings
from cernvm.fs.mount import mount_repository
home = Home(Path(os.environ["CVM_HOME"]))
settings = configured_settings({NAME!r}, home=home, environment={{}}, point=Path({str(point)!r}),
                               root=PurePosixPath({str(etc)!r}))
mount_repository(settings, ready=lambda live: print("ready", flush=True))
"""
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "CVM_HOME": str(tmp_path / "home"), **environment},
        )  # fmt: skip
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return point

    running = []
    yield mount
    for process in running:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        process.stdout.close()


def read(path, *, uid=None):
    """Read a file in a session of its own; its content, or the errno."""
    script = (
        "import sys\n"
        "try: print(open(sys.argv[1]).read())\n"
        "except OSError as error: print(error.errno)"
    )
    done = subprocess.run(
        ["python3", "-c", script, path], capture_output=True, text=True, timeout=60, check=True,
        start_new_session=True, user=uid, cwd="/",
    )  # fmt: skip
    return done.stdout.strip()


def test_who_is_a_member_reads(mounted, helper):
    point = mounted()
    assert read(point / "file") == "secret"
    asked = helper.asked[0]
    assert (asked["fqrn"], asked["membership"]) == (NAME, "test%/members")
    assert (asked["uid"], asked["gid"]) == (os.geteuid(), os.getegid())


def test_who_is_none_is_refused_everything_but_the_root_s_existence(mounted, helper):
    helper.decide(uids=[])
    point = mounted()
    assert read(point / "file") == "13"
    for command in (
        ["ls", point],
        ["stat", point / "file"],
        ["getfattr", "-n", "user.fqrn", point],
    ):
        assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode != 0
    assert (
        subprocess.run(["stat", point], capture_output=True, timeout=30, check=False).returncode
        == 0
    )
    assert (
        subprocess.run(["df", point], capture_output=True, timeout=30, check=False).returncode == 0
    )


@as_root
def test_a_member_s_reads_do_not_open_the_kernel_s_cache_to_others(mounted, helper, tmp_path):
    for folder in (*tmp_path.parents, tmp_path):
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    point = mounted()
    assert read(point / "file") == "secret"
    assert os.listdir(point)
    assert read(point / "file", uid=65534) == "13"
    listing = subprocess.run(
        ["ls", point], capture_output=True, text=True, timeout=30, check=False, user=65534, cwd="/"
    )
    assert (listing.returncode, listing.stdout) == (2, "")
    assert read(point / "file") == "secret"


def test_one_session_is_asked_about_once_until_its_time_is_up(mounted, helper):
    helper.decide(uids=[os.geteuid()], ttl=2)
    point = mounted()
    loop = f"""
import os, time
for _ in range(20): open({str(point / "file")!r}).read(); os.listdir({str(point)!r})
"""
    subprocess.run([sys.executable, "-c", loop], check=True, timeout=30, start_new_session=True)
    assert len(helper.asked) == 1
    subprocess.run([sys.executable, "-c", loop], check=True, timeout=30, start_new_session=True)
    assert len(helper.asked) == 2


def test_a_permission_ends(mounted, helper):
    helper.decide(uids=[os.geteuid()], ttl=1)
    point = mounted()
    assert (point / "file").read_text() == "secret"
    helper.decide(uids=[])
    time.sleep(1.2)
    with pytest.raises(PermissionError):
        (point / "file").read_text()


@pytest.mark.parametrize("sickness", ["hang", "lie", "die", "mute"])
def test_a_helper_that_is_sick_refuses_within_seconds_and_recovers(mounted, helper, sickness):
    helper.decide(uids=[os.geteuid()], **{sickness: True})
    point = mounted()
    began = time.monotonic()
    assert read(point / "file") == "13"
    assert time.monotonic() - began < 8
    helper.decide(uids=[os.geteuid()])
    assert read(point / "file") == "secret"


def test_a_helper_that_others_may_write_is_not_run(mounted, helper):
    helper.program.chmod(0o777)
    assert read(mounted() / "file") == "13"
    assert helper.asked == []


def test_the_helper_ends_with_the_mount(mounted, helper, cvm, point, tmp_path):
    mounted()
    assert read(point / "file") == "secret"
    before = helpers(helper)
    assert before
    subprocess.run(["umount", point], check=True, timeout=20)
    end = time.monotonic() + 5
    while helpers(helper) and time.monotonic() < end:
        time.sleep(0.05)
    assert helpers(helper) == []


def helpers(helper):
    wanted = os.fsencode(str(helper.program))
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_a_token_opens_the_server_to_who_is_permitted(mounted, helper, tmp_path):
    helper.decide(uids=[os.geteuid()], token="abc.def", ttl=60)
    point = mounted("abc.def", SSL_CERT_FILE=str(tmp_path / "tls.pem"))
    assert read(point / "file") == "secret"


def test_a_wrong_token_is_an_error_and_no_content(mounted, helper, tmp_path):
    helper.decide(uids=[os.geteuid()], token="wrong")
    point = mounted("abc.def", SSL_CERT_FILE=str(tmp_path / "tls.pem"))
    assert read(point / "file") == "5"


def test_a_revision_that_is_protected_guards_a_mount_that_was_open_before(
    mounted, helper, serve, point
):
    serve.protect(False)
    helper.decide(uids=[])
    mounted()
    assert read(point / "file") == "secret"
    serve.protect(True)
    end = time.monotonic() + 15
    while read(point / "file") != "13" and time.monotonic() < end:
        time.sleep(0.2)
    assert read(point / "file") == "13"
    assert helper.asked
