"""A job is a stranger's program that runs as the pilot's own user: how it might read the pilot's password."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from cernvm.pilot import payload
from conftest import missing

USER = 4242
SECRET = "the-password-of-the-bus"
PYTHON = "/usr/bin/python3"  # one that any user may run


@pytest.fixture
def folder():
    """A folder of the pilot's user, where that user may enter, with the pilot's file and the holder in it."""
    made = Path(tempfile.mkdtemp())
    (made / "pilot.toml").write_text(SECRET)
    (made / "pilot.toml").chmod(0o600)
    shutil.copy(payload.__file__, made / "payload.py")
    for path in (made, *made.iterdir()):
        os.chown(path, USER, USER)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def run(folder):
    if os.geteuid() != 0:
        missing("only root can become another user")

    def run(*command, hidden=True, holder=(PYTHON, "-I")):
        errand = payload.format_errand(
            [str(part) for part in command],
            limit_s=20,
            environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            hidden=[str(folder / "pilot.toml")] if hidden else [],
        )
        ours, theirs = os.pipe()
        os.write(theirs, errand)
        try:
            return subprocess.run(
                [*holder, folder / "payload.py"],
                stdin=ours,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
                user=USER,
                group=USER,
                extra_groups=[],
                cwd=folder,
                env={"LANG": "C.UTF-8"},
            )
        finally:
            os.close(ours)
            os.close(theirs)

    return run


@pytest.fixture
def pilot(folder):
    """A process that stands for the pilot: outside, the same user's, with the password in its environment."""
    process = subprocess.Popen(
        ["/bin/sleep", "60"], user=USER, group=USER, extra_groups=[], env={"PASSWORD": SECRET}
    )
    yield process
    process.kill()
    process.wait()


def test_what_is_not_hidden_is_read_so_the_next_tests_can_fail(run, folder):
    assert SECRET in run("cat", folder / "pilot.toml", hidden=False).stdout


@pytest.mark.parametrize(
    "attempt",
    [
        "cat {file}",
        "ln {file} other; cat other",
        "mv {file} other; cat other",
        "rm {file}; cat {file}",
        "mv {folder} {folder}.2; cat {folder}.2/pilot.toml; mv {folder}.2 {folder}",
        "umount {file}; cat {file}",
        "unshare -Urm sh -c 'umount {file}; cat {file}'",
        "unshare -Urm sh -c 'mount --bind {folder} /mnt; cat /mnt/pilot.toml'",
        "unshare -Urm sh -c 'mount --rbind / /mnt; umount /mnt{file}; cat /mnt{file}'",
        "cat /proc/{pilot}/root{file}",
        "cat /proc/{pilot}/cwd{file}",
        "cat /proc/{pilot}/environ",
        "cat /proc/$PPID/root{file}",
        "nsenter -t {pilot} -U -m --preserve-credentials cat {file}",
        "nsenter -t {pilot} -m cat {file}",
        "head -c 8192 /proc/{pilot}/mem; grep -a pass /proc/{pilot}/auxv",
    ],
)
def test_a_job_cannot_read_what_its_pilot_hides(run, folder, pilot, attempt):
    script = attempt.format(file=folder / "pilot.toml", folder=folder, pilot=pilot.pid)

    tried = run("sh", "-c", script)

    assert SECRET not in tried.stdout + tried.stderr
    assert (folder / "pilot.toml").read_text() == SECRET


def test_a_job_stays_the_user_that_it_was(run):
    assert run("id", "-u").stdout == f"{USER}\n"


def test_a_job_does_not_run_where_its_password_cannot_be_hidden(run):
    no_more = "echo 0 > /proc/sys/user/max_user_namespaces; exec /usr/bin/python3 -I $0"
    told = run("echo", "it ran", holder=("unshare", "-Ur", "sh", "-c", no_more))

    assert told.returncode == payload.CANNOT_HIDE_CODE
    assert "refused" in told.stderr
    assert "it ran" not in told.stdout
