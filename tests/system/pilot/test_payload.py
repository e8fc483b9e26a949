import subprocess
import sys
import time

import pytest

from cernvm.pilot import payload
from cernvm.pilot.execution import work_area

PATH = {"PATH": "/usr/bin:/bin"}


def start(*command, limit_s=20, environment=PATH, hidden=(), python=sys.executable, **options):
    held = subprocess.Popen(
        [python, "-I", payload.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    errand = payload.format_errand(
        command, limit_s=limit_s, environment=environment, hidden=[str(path) for path in hidden]
    )
    held.stdin.write(errand.decode())
    held.stdin.flush()
    return held


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -9 $$"], 137),
        (["/no/such/program"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_the_exit_code_is_the_commands(command, code):
    with start(*command) as held:
        assert held.wait(10) == code
        said = held.stderr.read()
    if code in (126, 127):
        assert command[0] in said


def test_the_wall_limit_ends_everything(processes):
    with start("sh", "-c", "setsid sleep 611 & sleep 612", limit_s=0.4) as held:
        assert held.wait(10) == payload.WALL_LIMIT_CODE
        assert "wall limit" in held.stderr.read()
    assert not processes("sleep 611")
    assert not processes("sleep 612")


def test_closing_the_lifeline_ends_everything_even_what_ignores_signals(processes):
    script = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 613; sleep 614' &) ; sleep 615; sleep 616"
    with start("sh", "-c", script) as held:
        _wait_for(lambda: processes("sleep 613") and processes("sleep 615"))
        held.stdin.close()
        began = time.monotonic()
        held.wait(10)
        assert time.monotonic() - began < 5
        for number in range(613, 617):
            assert not processes(f"sleep {number}")


def test_what_a_job_leaves_running_does_not_outlive_it(processes):
    with start("sh", "-c", "setsid sleep 617 & exit 0") as held:
        assert held.wait(10) == 0
    assert not processes("sleep 617")


def test_the_jobs_environment_cannot_reach_its_holder(tmp_path):
    (tmp_path / "subprocess.py").write_text("raise SystemExit('captured')")
    library = tmp_path / "loaded.so"
    environment = PATH | {"PYTHONPATH": str(tmp_path), "LD_PRELOAD": str(library)}
    with start("true", environment=environment, cwd=tmp_path) as held:
        assert held.wait(10) == 0
        # the loader complains once per process that was told to load it: about the command, not about its holder
        assert held.stderr.read().count(str(library)) == 1


def test_a_work_area_is_removed_and_sweeps_what_the_dead_left(tmp_path):
    (tmp_path / "pilot-dead/work").mkdir(parents=True)

    with work_area(tmp_path) as one, work_area(tmp_path) as two:
        (one / "file").write_text("x")
        assert sorted(tmp_path.iterdir()) == sorted([one, two])

    assert list(tmp_path.iterdir()) == []


def _wait_for(what):
    end = time.monotonic() + 5
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)
