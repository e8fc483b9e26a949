"""`cvm exec`: a command sees /cvmfs, is itself in everything else, and leaves nothing behind."""

import json
import os
import pty
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from cernvm.fs.fuse import mounts
from conftest import CVM, missing

NAME = "vectors.cernvm.test"
SOMEBODY = pwd.getpwnam("daemon").pw_uid  # fusermount3 wants an account that has a name


@pytest.fixture
def within(vectors, home, need_fuse):
    """The words that run a command beside the repository."""
    assert os.geteuid() == 0, "these tests begin as root"
    words = [CVM, "exec", NAME, "--url", vectors.url, "--public-key", str(vectors.key)]
    os.environ["CVM_HOME"] = str(home.path)
    yield words
    del os.environ["CVM_HOME"]
    await_end(home.path)


@pytest.fixture
def his_home():
    """A data folder of an ordinary user; not below pytest's, which every run closes to others again."""
    with tempfile.TemporaryDirectory(prefix="cvm-test-") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "home"
        path.mkdir()
        os.chown(path, SOMEBODY, SOMEBODY)
        yield path
        await_end(path)


@pytest.fixture
def somebody(his_home):
    """Words that run a command as an ordinary user who may open /dev/fuse, in a namespace of the test's own."""
    if shutil.which("setpriv") is None:
        missing("setpriv is not installed")
    node = his_home.parent / "fuse"
    os.mknod(node, 0o666 | 0o20000, os.makedev(10, 229))
    node.chmod(0o666)
    user = ["setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups"]
    return [
        "unshare", "--mount", "sh", "-c", f'mount --bind {node} /dev/fuse; exec "$@"', "sh",
        *user, "env", f"CVM_HOME={his_home}",
    ]  # fmt: skip


def await_end(home):
    """Fail if anybody serves for long after the commands ended."""
    end = time.monotonic() + 5
    while (left := serving(home)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left, "a process still serves"


@pytest.fixture
def as_somebody(somebody, within):
    """The same as `within` for an ordinary user."""
    return [*somebody, *within]


def serving(home):
    """The processes that run with this data folder; none is a child of ours."""
    mark = b"CVM_HOME=" + os.fsencode(home)
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if int(pid) != os.getpid() and mark in environ.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def run(words, *command, **settings):
    return subprocess.run(
        check=False,
        args=[*words, "--", *command],
        capture_output=True,
        text=True,
        timeout=60,
        **settings,
    )


@pytest.mark.parametrize("who", ["within", "as_somebody"])
def test_the_command_reads_the_repository_and_its_status_is_its_own(who, request):
    words = request.getfixturevalue(who)
    ended = run(words, "sh", "-c", f"cat /cvmfs/{NAME}/changed; id -u; pwd; exit 7")

    assert ended.returncode == 7, ended.stderr
    text, uid, folder = ended.stdout.splitlines()
    assert text == "revision 3"
    assert int(uid) == (SOMEBODY if who == "as_somebody" else 0)
    assert folder == os.getcwd()
    assert not [mount for mount in mounts() if mount.point == Path("/cvmfs") / NAME]


def test_an_ordinary_user_has_no_right_more_inside(as_somebody):
    ended = run(as_somebody, "sh", "-c", "grep CapEff /proc/self/status; touch /x; umount /cvmfs/*")

    assert "CapEff:\t0000000000000000" in ended.stdout
    # the root is one made for the command where this machine has no /cvmfs, else the machine's own
    refusals = ("Read-only file system", "Permission denied")
    assert any(f"cannot touch '/x': {why}" in ended.stderr for why in refusals)
    assert ended.returncode != 0
    assert not os.path.lexists("/x")


def test_a_fuse_device_that_is_closed_to_the_user_is_told(as_somebody, home):
    words = [word.replace("mount --bind", "true ") for word in as_somebody]
    if os.stat("/dev/fuse").st_mode & 0o006:
        pytest.skip("/dev/fuse is open to everyone here")

    ended = run(words, "true")

    assert ended.returncode == 14
    assert "you may not open /dev/fuse" in ended.stderr
    assert "chmod 666" in ended.stderr


def test_inside_cvm_knows_the_mount_and_outside_it_does_not(within, cvm):
    ended = run(within, "sh", "-c", f"{CVM} mount --json && {CVM} why /cvmfs/{NAME}/changed")

    row, _, why = ended.stdout.partition("]")
    assert json.loads(row + "]")[0]["mountpoint"] == f"/cvmfs/{NAME}"
    assert f"/changed of {NAME}" in why
    assert json.loads(cvm("mount", "--json").stdout) == []


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["no-such-command"], 127),
        (["/no/such/command"], 127),
        (["/etc/passwd"], 126),
        (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
        ([f"/cvmfs/{NAME}/misc/mode-0755"], 126),
    ],
)
def test_what_cannot_run_ends_as_a_shell_has_it(command, status, within):
    ended = run(within, *command)

    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_command_or_with_a_wrong_name_nothing_is_mounted(within, vectors):
    assert subprocess.run(within, capture_output=True, check=False).returncode == 11
    wrong = [
        word.replace(NAME, "absent.cernvm.test", 1) if word == NAME else word for word in within
    ]
    ended = run(wrong, "true")
    assert ended.returncode == 20, ended.stderr


def test_options_after_the_dashes_are_the_commands(within):
    ended = run(within, "echo", "--url", "--", "-h")

    assert ended.stdout == "--url -- -h\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_signal_reaches_the_command_and_ends_the_mounts(number, within, home):
    # Whoever runs the tests may have a signal ignored, which children inherit.
    words = ["env", "--default-signal", *within, "--", "sh", "-c", "echo $$; exec sleep 60"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert int(process.stdout.readline()) == process.pid  # it is the command

    process.send_signal(number)

    assert process.wait(5) == -number
    assert process.stdout.read() == ""  # nobody else holds it open
    process.stdout.close()


def test_a_child_that_stays_behind_gets_an_error_and_no_hang(within, tmp_path):
    script = (
        f"(exec </cvmfs/{NAME}/data/text-20M; touch {tmp_path}/opened; sleep 1; cat; "
        f"echo $? >{tmp_path}/status) >/dev/null 2>&1 & "
        f"until test -e {tmp_path}/opened; do sleep 0.02; done"
    )
    assert run(within, "sh", "-c", script).returncode == 0
    end = time.monotonic() + 10
    while not (tmp_path / "status").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.1)
    assert (tmp_path / "status").read_text() == "1\n"


def test_a_terminal_is_the_commands_own(within):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(
            within[0],
            [*within, "--", "sh", "-c", "tty && read line && echo got $line && exec sleep 60"],
        )
    try:
        seen = b""
        while b"/dev/" not in seen:
            seen += os.read(terminal, 1000)
        os.write(terminal, b"words\n")
        while b"got words" not in seen:
            seen += os.read(terminal, 1000)
        os.write(terminal, b"\x03")  # Ctrl-C
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) in (-signal.SIGINT, 130)


def test_two_at_once_do_not_meet(within):
    command = ["sh", "-c", f"sleep 0.3; cat /cvmfs/{NAME}/changed"]
    both = [
        subprocess.Popen([*within, "--", *command], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    assert [process.communicate(timeout=30)[0] for process in both] == ["revision 3\n"] * 2


def test_a_held_revision_and_claimed_files_are_shown(within):
    ended = run(
        [*within, "--tag", "first", "--claim-ownership"],
        *("sh", "-c", f"test -e /cvmfs/{NAME}/changed || stat -c '%u %n' /cvmfs/{NAME}/data"),
    )

    assert ended.stdout == f"0 /cvmfs/{NAME}/data\n"


@pytest.mark.soak
def test_killed_at_any_moment_it_leaves_nobody_who_serves(within, home, count, seeded):
    for _ in range(count(100)):
        process = subprocess.Popen([*within, "--", "sleep", "60"], stderr=subprocess.DEVNULL)
        time.sleep(seeded.uniform(0.05, 0.9))
        process.kill()
        process.wait(5)
    end = time.monotonic() + 10
    while serving(home.path) and time.monotonic() < end:
        time.sleep(0.05)

    assert serving(home.path) == []
    assert run(within, "cat", f"/cvmfs/{NAME}/changed").stdout == "revision 3\n"


def test_in_a_user_namespace_of_somebody_elses_it_works_too(somebody, within):
    ended = run(
        [*somebody, "unshare", "--user", "--map-root-user", "--mount", *within],
        *("sh", "-c", f"cat /cvmfs/{NAME}/changed; id -u"),
    )

    assert ended.stdout == "revision 3\n0\n", ended.stderr


def test_an_ordinary_user_mounts_with_the_help_of_fusermount3(somebody, within, his_home):
    if shutil.which("fusermount3") is None:
        missing("fusermount3 is not installed")
    point = his_home / "mnt"
    options = within[3:]
    script = (
        f"mkdir {point} && {CVM} mount {NAME} {point} {' '.join(options)} && cat {point}/changed && "
        f"{CVM} mount --json && {CVM} umount {point} && ls {point}"
    )

    ended = subprocess.run(
        [*somebody, "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stderr
    first, text, rest = ended.stdout.split("\n", 2)
    assert (first, text) == (f"mounted {NAME} at {point}, revision 3", "revision 3")
    assert [row["state"] for row in json.loads(rest)] == ["mounted"]
