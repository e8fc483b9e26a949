"""An ordinary user gets a world of its own, and nothing of it stays."""

import os
import signal
import time
from pathlib import Path

RUN = "import sys; from cernvm.box.namespace import *; sys.exit(run_in_namespace(sys.argv[1:]))"


def inside(user, script, **options):
    return user.python(RUN, "sh", "-c", script, **options)


def test_the_user_is_root_over_many_accounts_inside(ordinary_user):
    done = inside(ordinary_user, "id -u; touch f; chown 65534:42 f; stat -c %u:%g f")
    assert (done.returncode, done.stdout.split()) == (0, ["0", "65534:42"]), done.stderr
    made = (ordinary_user.home / "f").stat()
    assert (made.st_uid, made.st_gid) == (300_000 + 65533, 300_000 + 41)


def test_only_own_processes_are_seen_and_mounts_are_private(ordinary_user):
    done = inside(
        ordinary_user, "ls -d /proc/[0-9]* | wc -l; mount -t tmpfs none /mnt && echo mounted"
    )
    assert done.returncode == 0, done.stderr
    seen, mounted = done.stdout.split()
    assert int(seen) < 6
    assert mounted == "mounted"
    assert " /mnt " not in Path("/proc/self/mountinfo").read_text()


def test_the_exit_code_comes_back(ordinary_user):
    assert inside(ordinary_user, "exit 7").returncode == 7
    assert inside(ordinary_user, "sh -c 'kill -9 $$'; exit $?").returncode == 137


def test_the_network_can_be_left_for_a_loopback_of_its_own(ordinary_user):
    program = (
        "import socket\nfrom cernvm.box.namespace import isolate_network\nisolate_network()\n"
        "a = socket.create_server(('127.0.0.1', 0)); socket.create_connection(a.getsockname(), 2)\n"
        "print(socket.if_nameindex())\n"
    )
    (ordinary_user.home / "p.py").write_text(program)
    done = inside(ordinary_user, f"{_python()} p.py", timeout=20)
    assert done.stdout.strip() == "[(1, 'lo')]", done.stderr


def test_without_newuidmap_the_program_is_named(ordinary_user):
    done = ordinary_user.python(_catching("os.environ['PATH'] = '/nowhere'"))
    assert "newuidmap" in done.stdout
    assert "uidmap" in done.stdout


def test_without_a_subordinate_range_it_is_named(ordinary_user):
    ordinary_user.lend(10)
    done = ordinary_user.python(_catching(""))
    assert "/etc/subuid lends the account tester no 65535 subordinate ids" in done.stdout, done
    assert "usermod" in done.stdout


def test_killing_the_outer_process_ends_everything_inside(ordinary_user):
    marker = f"{time.time_ns()}.25"
    child = ordinary_user.start(
        _python(), "-c", RUN, "sh", "-c", f"sleep {marker} & sleep {marker}"
    )
    _wait_for(lambda: len(_processes(marker)) == 2)
    # the last program of the chain that `start` begins is the process that called run_in_namespace
    child.kill()
    child.communicate(timeout=10)
    _wait_for(lambda: not _processes(marker))


def test_a_request_to_end_reaches_the_command(ordinary_user):
    script = "trap 'echo ended; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    child = ordinary_user.start(_python(), "-c", RUN, "sh", "-c", script)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=10)
    assert (output, child.returncode) == ("ended\n", 3)


def _python():
    from conftest import CVM

    return os.path.join(os.path.dirname(CVM), "python")


def _catching(prelude):
    return (
        f"import os\nfrom cernvm.box.namespace import *\n{prelude}\n"
        "try:\n    run_in_namespace(['true'])\nexcept PrerequisiteError as error:\n    print(error, error.advice)\n"
    )


def _processes(marker):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if command == b"sleep\0%s\0" % marker.encode():
            found.append(pid)
    return found


def _wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
