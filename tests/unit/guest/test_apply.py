from dataclasses import replace

import pytest

from cernvm.context.kinds import Account, Command
from cernvm.context.reading import Context, PilotAccess
from cernvm.core.clock import FakeClock
from cernvm.core.errors import HostError
from cernvm.guest.apply import Outcome, apply_plan
from cernvm.guest.contextualize import contextualize
from cernvm.guest.machine import FileState, MemoryMachine
from cernvm.guest.plan import make_plan
from cernvm.guest.sources.memory import MemorySource
from cernvm.guest.sources.port import Found, InstanceData
from cernvm.guest.status import State, main, read_status

CONTEXT = Context(
    repositories=("sft.cernvm.test", "os"),
    users=(Account("pilot", "pilot", "geheim"),),
    shell="/bin/sh",
    environment=(("A", "1"),),
    command=Command("pilot", ("/bin/run",)),
    pilot=PilotAccess("h:1", "a@b", "c@d", "geheim"),
)
INSTANCE = InstanceData("i-1", hostname="w1.x", ipv4="10.0.0.2")


@pytest.fixture
def machine():
    system = MemoryMachine()
    put(system, "/bin/sh", b"")
    put(system, "/etc/passwd", b"root:x:0:0::/root:/bin/sh\n")
    put(system, "/etc/group", b"root:x:0:\n")
    put(system, "/etc/shadow", b"root:*:1:0:99999:7:::\n", mode=0o640, gid=42)
    put(system, "/etc/hosts", b"::1 ip6-localhost\n")
    put(system, "/etc/skel/.profile", b"# profile\n")
    put(system, "/cvmfs/sft.cernvm.test/README", b"")
    put(system, "/cvmfs/os.cernvm.test/README", b"")
    return system


def put(system, path, data, mode=0o644, gid=0):
    system.write(path, data, mode=mode, uid=0, gid=gid)


def run(machine, context=CONTEXT):
    return apply_plan(make_plan(context, INSTANCE), machine, FakeClock())


def outcomes(applied):
    return {result.step: result.outcome for result in applied.results}


def test_a_plan_is_applied_whole(machine):
    applied = run(machine)

    assert applied.is_good
    assert machine.hostname == "w1.x"
    assert machine.read("/etc/hosts").startswith(b"::1 ip6-localhost\n# begin")
    assert machine.look("/etc/cernvm/pilot.toml") == FileState(False, 0o600, 1000, 1000)
    assert machine.look("/home/pilot") == FileState(True, 0o700, 1000, 1000)
    assert machine.look("/home/pilot/.profile") == FileState(False, 0o644, 1000, 1000)
    assert machine.look("/etc/shadow") == FileState(False, 0o640, 0, 42)
    assert outcomes(applied)["command"] is Outcome.READY


def test_a_second_run_changes_nothing(machine):
    run(machine)
    before = dict(machine.files)

    applied = run(machine)

    assert set(outcomes(applied).values()) == {Outcome.UNCHANGED, Outcome.READY}
    assert machine.files == before


def test_a_changed_context_applies_the_difference_only(machine):
    run(machine)

    applied = run(machine, replace(CONTEXT, environment=(("A", "2"),)))

    changed = {step for step, outcome in outcomes(applied).items() if outcome is Outcome.CHANGED}
    assert changed == {"environment", "environment-file"}
    assert machine.read("/etc/environment").count(b"begin of") == 1


def test_our_lines_in_a_shared_file_leave_the_others_alone(machine):
    run(machine)
    text = machine.read("/etc/hosts") + b"10.0.0.9 added-later\n"
    put(machine, "/etc/hosts", text)

    run(machine, replace(CONTEXT, hostname="w2"))

    lines = machine.read("/etc/hosts").decode().splitlines()
    assert lines[0] == "::1 ip6-localhost"
    assert lines[-1] == "10.0.0.9 added-later"
    assert "10.0.0.2 w2" in lines
    assert not any("w1" in line for line in lines)


def test_a_failed_step_stops_what_needs_it_and_nothing_else(machine):
    applied = run(machine, replace(CONTEXT, shell="/bin/zsh"))

    assert outcomes(applied)["account:pilot"] is Outcome.FAILED
    assert outcomes(applied)["pilot-config"] is Outcome.SKIPPED
    assert outcomes(applied)["command"] is Outcome.SKIPPED
    assert outcomes(applied)["environment"] is Outcome.CHANGED
    assert machine.read("/etc/cernvm/pilot.toml") is None


@pytest.mark.parametrize(
    ("repository", "reason"),
    [
        ("atlas.cern.ch", "the site does not give it"),
        ("atlas", "no repository begins with atlas."),
        ("twin", "2 repositories begin with twin."),
        ("empty.cernvm.test", "is empty"),
        ("file.cernvm.test", "Not a directory"),
    ],
)
def test_a_repository_that_cannot_be_read_fails_with_its_reason(machine, repository, reason):
    put(machine, "/cvmfs/twin.a.org/x", b"")
    put(machine, "/cvmfs/twin.b.org/x", b"")
    put(machine, "/cvmfs/file.cernvm.test", b"")
    machine.make_folder("/cvmfs/empty.cernvm.test", mode=0o755, uid=0, gid=0)

    result = run(machine, Context(repositories=(repository,))).results[-1]

    assert result.outcome is Outcome.FAILED
    assert reason in result.reason


def test_an_account_file_that_is_no_text_is_a_failed_step(machine):
    put(machine, "/etc/passwd", b"\xff\n")

    assert outcomes(run(machine))["account:pilot"] is Outcome.FAILED


def context_of(machine, source):
    return contextualize([source], machine, FakeClock())


def test_the_status_tells_what_became_of_the_context_without_secrets(machine):
    text = b"[cernvm]\nkeyboard = us\nusers = pilot:pilot:geheim\ncontextualization_command = pilot:/bin/run geheim\n"

    done = context_of(machine, MemorySource(Found(text, INSTANCE), delay_s=0.5))

    status = read_status(machine)
    assert done.launch.command.argv == ("/bin/run", "geheim")
    assert status["state"] == "done"
    assert status["took_ms"] == 500
    assert status["instance_id"] == "i-1"
    assert status["findings"][0]["key"] == "cernvm.keyboard"
    assert status["command"]["program"] == "/bin/run"
    assert "geheim" not in str(status)
    assert machine.look("/var/lib/cernvm/status.json").mode == 0o644


@pytest.mark.parametrize(
    ("source", "state", "reason"),
    [
        (MemorySource(None), State.NO_CONTEXT, "memory: absent"),
        (MemorySource(error=HostError("u", "broken")), State.FAILED, "memory: u: broken"),
        (MemorySource(Found(b"[cernvm]\nusers = A:b:geheim\n")), State.FAILED, "has errors"),
        (MemorySource(Found(b"[cernvm]\nrepositories = no.such.repo\n")), State.FAILED, "no.such"),
    ],
)
def test_a_context_that_is_not_applied_starts_nothing(machine, source, state, reason):
    done = context_of(machine, source)

    assert done.launch is None
    assert done.status.state is state
    assert reason in done.status.reason
    assert "geheim" not in str(read_status(machine))


def test_an_instance_without_user_data_is_done(machine):
    assert context_of(machine, MemorySource(Found(b""))).status.state is State.DONE


def test_no_status_is_an_answer_too(capsys):
    assert read_status(MemoryMachine()) is None
    bad = MemoryMachine()
    put(bad, "/var/lib/cernvm/status.json", b"{half")
    assert read_status(bad) is None
    assert main([]) == 1
    assert "not been contextualized" in capsys.readouterr().err
