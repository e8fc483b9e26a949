"""Process 1 of a real, private system: it applies its context, runs the command, reaps, and ends everything."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from contract.guest.imds import metadata_service

PYTHON = sys.executable
SECRET = "hush-hush-42"
CONTEXT = f"""[cernvm]
organisations = evgen
repositories = sft
users = pilot:evgen:,guest:guest:{SECRET}
shell = /bin/bash
environment = EVGEN_WORKER=1,OPTIONS="a=1,b=it's"
contextualization_command = pilot:COMMAND
[pilot]
server = 10.77.0.1:5222
jid = pilot@grid.test
password = {SECRET}
manager = jobs@grid.test
"""


def user_data(command):
    return CONTEXT.replace("COMMAND", command).encode()


def script(text, quote):
    """Shell that puts a program at /opt/command, inside."""
    program = quote(f"#!/bin/sh\n{text}")
    return (
        f"hostname worker-1.cernvm.test; printf %s {program} > opt/command; chmod 755 opt/command"
    )


def test_an_instance_plays_its_role(start, quote):
    show = (
        "id; pwd; env | sort; umask; echo $$; ls -l /proc/self/fd | wc -l; cat /cvmfs/sft.cernvm.test/README\n"
        "cat /etc/cernvm/pilot.toml >/dev/null && echo may read it; grep ^SigBlk /proc/self/status; exec sleep 100"
    )
    with metadata_service(user_data("/opt/command")) as server:
        machine = start(server.url, script(show, quote))
        machine.wait_for(r"pilot\| SigBlk")

        said = [line[7:] for line in machine.console.splitlines() if line.startswith("pilot| ")]
        uid = machine.run("id -u pilot").strip()
        gid = machine.run("id -g pilot").strip()
        assert said[0] == f"uid={uid}(pilot) gid={gid}(evgen) groups={gid}(evgen)"
        assert said[1] == "/home/pilot"
        assert {
            "EVGEN_WORKER=1", "OPTIONS=a=1,b=it's", "HOME=/home/pilot", "USER=pilot", "SHELL=/bin/bash",
            "PATH=/usr/local/bin:/usr/bin:/bin:/usr/games",
        } <= set(said)  # fmt: skip
        assert {"0022", "data", "may read it", "SigBlk:\t0000000000000000".expandtabs()} <= set(
            said
        )
        assert not any(line.startswith(("PYTHON", "CVM_")) for line in said)

        assert machine.run("stat -c '%a %U' /etc/cernvm/pilot.toml") == "600 pilot\n"
        assert SECRET in machine.read("/etc/cernvm/pilot.toml")
        assert machine.run("stat -c '%a %U %G' /home/pilot") == "700 pilot evgen\n"
        assert machine.run("hostname; cat /etc/hostname") == "worker-1.cernvm.test\n" * 2
        assert machine.run("getent hosts worker-1").split() == [
            "10.77.0.11", "worker-1.cernvm.test", "worker-1",
        ]  # fmt: skip
        assert machine.run('. /etc/profile; echo "$OPTIONS"') == "a=1,b=it's\n"
        assert "CERNVM_ORGANISATION=evgen" in machine.read("/etc/cernvm/site.conf")
        assert (
            machine.run("python3 -c 'import spwd' 2>&1; grep ^guest: /etc/shadow").count("$6$") == 1
        )
        assert re.search(r"^pilot:!:", machine.read("/etc/shadow"), re.MULTILINE)
        assert machine.run("pwck -r; grpck -r; true").count("pilot") == 0

        status = json.loads(machine.read("/var/lib/cernvm/status.json"))
        assert status["state"] == "done"
        assert status["instance_id"] == "i-0123456789abcdef0"
        assert status["command"]["state"] == "running"
        assert {step["outcome"] for step in status["steps"]} <= {"changed", "unchanged", "ready"}


def test_secrets_stay_in_their_file(start, quote):
    with metadata_service(user_data("/opt/command")) as server:
        machine = start(server.url, script("echo hello; exec sleep 100", quote))
        machine.wait_for(r"pilot\| hello")

        assert SECRET not in machine.console
        found = machine.run(
            f"grep -rl -e {SECRET} /etc /var/lib/cernvm /var/log/cernvm /run /tmp /home 2>/dev/null; true"
        )
        assert found.split() == ["/etc/cernvm/pilot.toml"]
        assert (
            machine.run(
                "cat /proc/1/cmdline /proc/1/environ /proc/*/environ | tr '\\0' '\\n' | grep hush || true"
            )
            == ""
        )


def test_the_second_apply_changes_nothing(start, quote):
    with metadata_service(user_data("/opt/command")) as server:
        machine = start(server.url, script("exec sleep 100", quote))
        machine.wait_for("command.started")
        before = machine.run("find /etc /home -printf '%p %m %U %G %i %T@\\n' | sort")

        again = machine.run(f"{PYTHON} -m cernvm.guest.boot --once --metadata-url {server.url}")
        after = machine.run("find /etc /home -printf '%p %m %U %G %i %T@\\n' | sort")

        status = json.loads(machine.read("/var/lib/cernvm/status.json"))

    assert status["command"]["state"] == "running"
    assert "outcome=changed" not in again
    assert again.count("outcome=unchanged") == 9
    assert after == before


def test_process_1_reaps_orphans(start, quote):
    orphans = "for i in 1 2 3 4 5; do (sleep 0.1 & ) ; done; setsid sh -c '(sleep 0.2 &)'; sleep 0.6; echo made"
    with metadata_service(user_data("/opt/command")) as server:
        machine = start(server.url, script(orphans, quote))
        machine.wait_for(r"pilot\| made")
        machine.wait_for("command.ended")

        assert machine.run("grep -l '^State:.Z' /proc/[0-9]*/status || true") == ""
        assert machine.run("ls -d /proc/[0-9]* | wc -l").strip() in ("3", "4", "5")


def test_a_command_that_was_killed_is_started_again(start, quote):
    with metadata_service(user_data("/opt/command")) as server:
        # what it leaves behind holds its output open
        machine = start(server.url, script("echo I am $$; setsid sleep 50 & exec sleep 100", quote))
        for number in (1, 2):
            machine.wait_for(rf"(I am[\S\s]*){{{number}}}")
            pid = re.findall(r"pilot\| I am (\d+)", machine.console)[-1]
            machine.run(f"kill -9 {pid}")
        machine.wait_for(r"(I am[\S\s]*){3}")
        status = json.loads(machine.read("/var/lib/cernvm/status.json"))
        assert status["command"]["state"] == "running"
        assert str(status["command"]["pid"]) not in pid


def test_a_command_that_was_asked_to_end_is_left_alone(start, quote):
    with metadata_service(user_data("/opt/command")) as server:
        machine = start(server.url, script("echo I am $$; exec sleep 100", quote))
        machine.wait_for("I am")
        machine.run(f"kill {re.findall(r'I am ([0-9]+)', machine.console)[0]}")
        machine.wait_for("command.ended")
        time.sleep(1.5)
        assert machine.console.count("I am") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGPWR])
def test_a_signal_ends_everything_politely(start, quote, number):
    polite = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    with metadata_service(user_data("/opt/command")) as server:
        machine = start(server.url, script(polite, quote))
        machine.wait_for(r"pilot\| ready")

        assert machine.end(number) < 2
    assert "pilot| bye" in machine.console
    assert "exit_status=7" in machine.console


def test_the_deaf_are_killed_within_five_seconds(start, quote):
    deaf = "trap '' TERM INT HUP; echo ready; while :; do sleep 0.2; done"
    with metadata_service(user_data("/opt/command")) as server:
        machine = start(server.url, script(deaf, quote))
        machine.wait_for(r"pilot\| ready")

        assert machine.end() < 5
    assert "init.killing" in machine.console


def test_an_init_that_is_not_process_1_ends_what_it_started_and_nothing_else(start, quote):
    busy = "(while :; do sleep 0.05; done) & trap 'echo bye; exit 0' TERM; echo ready; wait"
    bystander = "sleep 30 & echo bystander $!; "
    with metadata_service(user_data("/opt/command")) as server:
        machine = start(server.url, bystander + script(busy, quote), kinds=())
        machine.wait_for(r"pilot\| ready")
        other = int(machine.wait_for(r"bystander (\d+)")[1])
        command = int(machine.wait_for(r"command.started .*pid=(\d+)")[1])

        # a zombie of the command's group counts until the machine's own process 1 has reaped it
        assert machine.end() < 5
        assert not [path for path in Path("/proc").glob("[0-9]*/stat") if _session(path) == command]
        assert Path(f"/proc/{other}").exists()
        os.kill(other, signal.SIGKILL)
    assert "pilot| bye" in machine.console


def _session(stat):
    try:
        return int(stat.read_text().rpartition(")")[2].split()[3])
    except OSError:
        return 0


def test_a_signal_while_looking_for_a_context_ends_it_at_once(start):
    machine = start("http://127.0.0.1:1")
    machine.wait_for("source.asked")

    assert machine.end() < 1


def test_an_instance_without_a_context_says_so_and_waits_for_diagnosis(start):
    machine = start("http://127.0.0.1:1")
    machine.wait_for(r"\*{78}\nCONTEXT FAILED: .*cannot be reached")

    time.sleep(0.2)
    assert machine.process.poll() is None
    assert json.loads(machine.read("/var/lib/cernvm/status.json"))["state"] == "failed"
    assert machine.end() < 1


def test_a_context_with_an_error_is_not_applied_at_all(start):
    broken = user_data("/bin/true").replace(b"organisations", b"organisation")
    with metadata_service(broken) as server:
        machine = start(server.url)
        machine.wait_for("CONTEXT FAILED: the user-data has errors")

        assert "line 2: error: cernvm.organisation" in machine.console
        assert "did you mean organisations?" in machine.console
        assert "pilot" not in machine.read("/etc/passwd")


def test_a_missing_repository_stops_the_command_and_nothing_else(start):
    text = user_data("/bin/echo must-not-run").replace(b"= sft", b"= sft,atlas.cern.ch")
    with metadata_service(text) as server:
        machine = start(server.url)
        machine.wait_for("CONTEXT FAILED: failed: repository:atlas.cern.ch, command")

        assert "must-not-run" not in machine.console
        assert machine.run("id -un pilot") == "pilot\n"
        steps = json.loads(machine.read("/var/lib/cernvm/status.json"))["steps"]
        assert steps[-1]["outcome"] == "skipped"
        assert steps[-1]["reason"] == "needs repository:atlas.cern.ch, which failed"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/opt/absent", "No such file"),
        ("/etc/passwd", "Permission denied"),
    ],
)
def test_a_command_that_cannot_start_is_loud(start, command, reason):
    with metadata_service(user_data(command)) as server:
        machine = start(server.url)
        machine.wait_for(f"CONTEXT FAILED: {command} cannot be started: {reason}")

        assert json.loads(machine.read("/var/lib/cernvm/status.json"))["state"] == "failed"


def test_an_instance_takes_its_name_where_it_may(start):
    with metadata_service(b"[hostname]\nhostname = mine.example.org\n") as server:
        machine = start(server.url, rights="+all")
        machine.wait_for("context.applied")

        assert machine.run("hostname") == "mine.example.org\n"


def test_a_name_that_the_site_does_not_allow_is_a_failure_with_advice(start):
    with metadata_service(b"[hostname]\nhostname = mine.example.org\n") as server:
        machine = start(server.url)
        machine.wait_for("CONTEXT FAILED: failed: hostname")

    assert "its site names it; leave [hostname] out" in machine.console


def test_the_commands_output_cannot_pretend_to_be_process_1(start, quote):
    forge = (
        r"printf 'CONTEXT \033[31mFAILED\r\n'; head -c 20000 /dev/zero | tr '\0' x; echo; echo done"
    )
    with metadata_service(user_data("/opt/command")) as server:
        machine = start(server.url, script(forge, quote))
        machine.wait_for(r"pilot\| done")

    assert "pilot| CONTEXT ?[31mFAILED\n" in machine.console
    assert all(len(line) < 4200 for line in machine.console.splitlines())
    assert not re.search(r"^x", machine.console, re.MULTILINE)
