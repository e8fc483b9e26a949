from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.context import Context, PilotAccess, read_context, render
from cernvm.context.finding import MAX_FINDINGS, Severity
from cernvm.context.kinds import Account, Command
from cernvm.context.userdata import Reader

EXAMPLE = (Path(__file__).parents[3] / "examples/evgen.tpl").read_text()
BUS = {
    "INDEX": "1",
    "BUS_SERVER": "10.77.0.1:5222",
    "BUS_JID": "pilot@grid.test",
    "BUS_PASSWORD": "geheim=#;",
    "JOB_MANAGER": "jobs@grid.test",
}
PILOT = "[pilot]\nserver = a:1\njid = a@b\npassword = geheim\nmanager = c@d\n"
# Our own telling of the first talk's worker: the same keys, the same broken lines.
PANDA = """[cernvm]
organisations = atlas
repositories  = atlas,grid,atlas-condb,sft
users = panda:atlas:
eos-server = eos.example.org
contextualization_command =
panda: '/cvmfs/sft.example.org/pilot/run -m
/eos/vm/copilot -t 1'
"""


def of(text):
    return read_context(text.encode())


def errors(reading):
    return [finding for finding in reading.findings if finding.severity is Severity.ERROR]


def test_the_example_template_gives_a_worker():
    reading = of(render(EXAMPLE, {**BUS, "PROXY": "http://squid:3128;DIRECT"}))

    assert not reading.findings
    assert reading.context == Context(
        organisations=("evgen",),
        repositories=("sft.cernvm.test",),
        users=(Account("pilot", "pilot"),),
        shell="/bin/bash",
        proxy="http://squid:3128;DIRECT",
        environment=(("EVGEN_WORKER", "1"), ("EVGEN_BEAM_ENERGY_GEV", "13000")),
        command=Command("pilot", ("/usr/bin/cvm", "agent", "pilot")),
        pilot=PilotAccess("10.77.0.1:5222", "pilot@grid.test", "jobs@grid.test", "geheim=#;"),
    )


def test_the_worker_of_the_first_talk_is_read_whole():
    reading = of(PANDA)

    assert reading.context.command == Command(
        "panda", ("/cvmfs/sft.example.org/pilot/run", "-m", "/eos/vm/copilot", "-t", "1")
    )
    assert [(finding.line, finding.severity) for finding in reading.findings] == [
        (5, Severity.WARNING),
        (7, Severity.NOTE),
        (8, Severity.NOTE),
    ]


def test_no_user_data_is_an_empty_context():
    assert of("").context == Context(shell="/bin/sh")


@pytest.mark.parametrize(
    ("text", "line", "key", "suggestion"),
    [
        ("[cernvm]\norganisation = x\n", 2, "cernvm.organisation", "did you mean organisations?"),
        ("[cernvmm]\n", 1, "", "did you mean cernvm?"),
        ("[condr]\n", 1, "", "did you mean condor?"),
        ("[cernvm]\nzzz = x\n", 2, "cernvm.zzz", "known are organisations"),
        ("[cernvm]\nusers = UPPER:x:\n", 2, "cernvm.users", "for example users = pilot:pilot:"),
        ("[pilot]\njid = a@b\n" + "[cernvm]\nusers=a:a:", 1, "pilot.server", "add server ="),
        (PILOT, 1, "", "add users"),
        ("[cernvm]\nusers = panda:atlas:\ncontextualization_command = pnda:/bin/true", 3,
         "cernvm.contextualization_command", "did you mean panda?"),
        ("[cernvm]\ncontextualization_command = p:/bin/true", 2,
         "cernvm.contextualization_command", "add it to users = p:p:"),
    ],
)  # fmt: skip
def test_an_error_names_line_key_and_what_to_write(text, line, key, suggestion):
    reading = of(text)

    first = errors(reading)[0]
    assert reading.context is None
    assert (first.line, first.key) == (line, key)
    assert suggestion in first.suggestion


def test_a_wrong_value_is_shown_unless_it_is_secret():
    first = of("[cernvm]\nshell = bin/sh").findings[0]
    assert first.found == "bin/sh"
    assert "bin/sh" not in str(first)
    assert not first.for_others().found
    shown = str(of("[cernvm]\nusers = A:a:geheim\n[pilot]\npassword = geheim\n  geheim\n").findings)
    assert "geheim" not in shown


def test_what_the_original_knows_and_this_does_not_is_a_warning():
    reading = of("[condor]\ncondor_master = x\n[cernvm]\nkeyboard = us\n")

    assert reading.context is not None
    assert [finding.severity for finding in reading.findings] == [Severity.WARNING] * 2
    assert reading.readers == (Reader.NOBODY, Reader.NOBODY, Reader.GUEST, Reader.NOBODY)


def test_the_last_of_two_equal_keys_counts_and_a_warning_says_so():
    reading = of("[cernvm]\nshell = /bin/a\n[cernvm]\nshell = /bin/b\n")

    assert reading.context.shell == "/bin/b"
    assert "given in line 2 too" in reading.findings[0].message


def test_a_disabled_section_is_not_applied():
    text = "[amiconfig]\ndisabled_plugins = pilot\n[cernvm]\nshell = /bin/b\n" + PILOT

    reading = of(text)

    assert reading.context == Context(shell="/bin/b")
    assert "disabled" in reading.findings[0].message


def test_a_section_disabled_by_a_wrong_name_is_an_error():
    first = of("[amiconfig]\nplugins = cernvm\ndisabled_plugins = pilto\n").findings[0]

    assert (first.line, first.severity) == (3, Severity.ERROR)
    assert first.suggestion == "did you mean pilot?"


def test_bytes_that_are_no_text_are_one_finding():
    reading = read_context(b"[cernvm]\n\xff\n")

    assert [(finding.line, finding.message) for finding in reading.findings] == [
        (2, "not UTF-8 text")
    ]


def test_findings_are_bounded():
    reading = of("[cernvm]\n" + "a = 1\n" * 3000)

    assert len(reading.findings) == MAX_FINDINGS + 1
    assert "2800 more" in reading.findings[-1].message


WORDS = st.sampled_from(
    ["[cernvm]", "[pilot]", "users", "=", ":", "pilot", ",", "\n", "\n", " ", "'", "shell", "environment", "A=1",
     "contextualization_command", "/bin/sh", "[amiconfig]", "disabled_plugins", "cernvm", "[hostname]", "hostname", "é"]
)  # fmt: skip


@given(st.lists(WORDS, max_size=40).map("".join) | st.text(max_size=50))
def test_any_text_is_a_context_or_has_an_error(text):
    reading = of(text)

    assert (reading.context is None) == bool(errors(reading))


@given(st.integers(0, len(EXAMPLE)), st.integers(0, 5), st.text(max_size=5))
def test_a_mutated_template_never_breaks_the_reader_nor_shows_the_password(at, cut, put):
    text = render(EXAMPLE, BUS)
    reading = of(text[:at] + put + text[at + cut :])

    assert "geheim=#;" not in str(reading.findings)
    assert "geheim=#;" not in repr(reading)
