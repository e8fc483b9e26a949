"""Configuration is read as a shell would read it, and never run."""

import contextlib
import subprocess
import time
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.core.errors import ConfigError
from cernvm.fs.parameters.documents import MemoryDocuments
from cernvm.fs.parameters.evaluate import Evaluator


def evaluate(text, environment=None, **files):
    documents = MemoryDocuments({"/etc/a.conf": text, **files})
    evaluator = Evaluator(documents, environment or {})
    assert evaluator.run_file(PurePosixPath("/etc/a.conf"))
    return evaluator


def values(text, environment=None, **files):
    found = evaluate(text, environment, **files).settings
    return {name.removeprefix("CVMFS_"): setting.value for name, setting in found.items()}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("CVMFS_A=b", "b"),
        ("  export CVMFS_A='b c' # why", "b c"),
        ('CVMFS_A="a;b|c"', "a;b|c"),
        ("CVMFS_A=a#b", "a#b"),
        ("CVMFS_A=", ""),
        ("CVMFS_A=''", ""),
        ("X=1; CVMFS_A=$X${X}2\n", "112"),
        ("CVMFS_A=\"$X\"'$X'\\$X", "7$X$X"),
        ("CVMFS_A=${NONE:-d}e", "de"),
        ("CVMFS_A=${X:-d}", "7"),
        ("CVMFS_A=${X:+d}${NONE:+e}", "d"),
        ("E=\nCVMFS_A=${E-d}${E:-f}", "f"),
        ("CVMFS_A=${NONE:-${X}y}", "7y"),
        ("CVMFS_A=a\\\nb", "ab"),
        ('CVMFS_A="a\\\nb"', "ab"),
        ("readonly CVMFS_A=1\nCVMFS_A=1", "1"),
        ("CVMFS_A=1\r\n", "1"),
        ("CVMFS_A=1 X=2", "1"),
        ('if [ "x$X" = "x7" ]; then\n  CVMFS_A=y\nelse\n  CVMFS_A=n\nfi', "y"),
        ('if [ -z "$X" ]; then CVMFS_A=1;elif [ $X != 8 ]; then CVMFS_A=2; fi', "2"),
        ('[ -n "$X" ] && CVMFS_A=1 || CVMFS_A=2', "1"),
        ("if ! [ a = b ] && [ 1 -lt 2 -a 3 -ge 3 ]; then CVMFS_A=1; fi", "1"),
        ("[ -f /etc/a.conf ] && CVMFS_A=1", "1"),
        ("[ -f /etc/b.conf ] || CVMFS_A=2", "2"),
    ],
)
def test_an_assignment_means_what_it_means_to_a_shell(text, value):
    assert values(text, {"X": "7"}) == {"A": value}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\nCVMFS_A=$(hostname)", 2),
        ("CVMFS_A=`hostname`", 1),
        ('CVMFS_A="`hostname`"', 1),
        ("CVMFS_A=1\n\n\nrm -rf /", 4),
        ("CVMFS_A=1 rm -rf /", 1),
        ("CVMFS_A='a\n\n", 1),
        ('CVMFS_A="a', 1),
        ("CVMFS_A=${X", 1),
        ("CVMFS_A=${X%y}", 1),
        ("CVMFS_A=a & b", 1),
        ("CVMFS_A=a > /etc/passwd", 1),
        ("f() { CVMFS_A=a; }", 1),
        ("if [ a = a ]; then\nCVMFS_A=1\n", 2),
        ("\nif [ a ~ a ]; then CVMFS_A=1; fi", 2),
        ("fi", 1),
        ("[ a = a", 1),
        (". /etc/missing", 1),
        ("CVMFS_A='a\nb'", 1),
        ("CVMFS_A=http://a; http://b", 1),
    ],
)
def test_what_is_left_out_of_the_grammar_is_an_error_that_names_file_and_line(text, line):
    with pytest.raises(ConfigError) as caught:
        evaluate(text, {"X": "7"})
    assert caught.value.source == f"/etc/a.conf:{line}"


@pytest.mark.parametrize(
    ("text", "kept", "used"),
    [
        ("CVMFS_SERVER_URL=http://a;http://b;http://c", "http://a", "http://a;http://b;http://c"),
        ("CVMFS_HTTP_PROXY=http://a:3128|http://b:3128;DIRECT", "", "http://a:3128|http://b:3128;DIRECT"),
        ("CVMFS_SERVER_URL='http://a';http://b", "http://a", "http://a;http://b"),
    ],
)  # fmt: skip
def test_a_list_that_lost_its_quotes_is_used_whole_and_told(text, kept, used):
    evaluator = evaluate(text)
    (warned,) = evaluator.warnings
    (setting,) = evaluator.settings.values()
    assert setting.value == used
    assert str(warned).startswith("/etc/a.conf:1: CVMFS_")
    assert f"would have kept {kept!r}" in warned.what


def test_two_assignments_on_a_line_are_two_assignments():
    assert values("CVMFS_A=1;CVMFS_B=2") == {"A": "1", "B": "2"}


def test_an_included_file_is_found_from_the_folder_of_the_file_that_was_asked_for():
    files = {
        "/etc/common/one.conf": ". common/two.conf\nCVMFS_B=$X",
        "/etc/common/two.conf": "X=2",
    }
    assert values(". ./common/one.conf\nCVMFS_A=1", **files) == {"A": "1", "B": "2"}


def test_a_file_that_includes_itself_is_an_error():
    with pytest.raises(ConfigError, match="include each other"):
        evaluate(". ./a.conf")


def test_a_value_that_doubles_itself_is_stopped():
    with pytest.raises(ConfigError, match="longer than"):
        evaluate("A=aaaaaaaaaaaaaaaa\n" + "A=$A$A\n" * 40)


def test_many_long_references_in_one_word_are_stopped():
    lines = "A=" + "a" * 60_000 + "\n" + 'if [ "$A" = b ]; then B=1; fi\n' * 5000
    with pytest.raises(ConfigError, match="longer than"):
        evaluate(lines)


def test_signs_without_end_in_a_value_are_read_at_once():
    started = time.process_time()

    with pytest.raises(ConfigError, match="longer"):
        values("CVMFS_A=" + ";" * 200_000 + "x")
    assert values("CVMFS_A=" + ";x" * 20_000) == {"A": ";x" * 20_000}

    assert time.process_time() - started < 5


def test_warnings_without_end_are_told_up_to_a_number():
    started = time.process_time()

    told = evaluate("readonly CVMFS_A=1\n" + "CVMFS_A=2\n" * 25_000).warnings

    assert 100 <= len(told) <= 1000
    assert time.process_time() - started < 5


def test_deeply_nested_conditions_are_an_error_and_no_crash():
    with pytest.raises(ConfigError, match="nested"):
        evaluate("if true; then " * 2000)


def test_a_thousand_negations_are_no_crash():
    assert values("! " * 5001 + "false && CVMFS_A=1") == {"A": "1"}
    assert values("if [ " + "! " * 5001 + "a = b ]; then CVMFS_A=1; fi") == {"A": "1"}


def test_a_name_that_is_final_keeps_its_value_and_that_is_told():
    evaluator = evaluate("readonly CVMFS_A=1\nCVMFS_A=2\nunset CVMFS_A")
    assert evaluator.settings["CVMFS_A"].value == "1"
    assert [str(each) for each in evaluator.warnings] == [
        "/etc/a.conf:2: CVMFS_A keeps the value of /etc/a.conf:1",
        "/etc/a.conf:3: CVMFS_A keeps the value of /etc/a.conf:1",
    ]


def test_every_value_knows_where_it_was_set_and_what_it_replaced():
    found = evaluate("CVMFS_A=1\nCVMFS_A=2\n").settings["CVMFS_A"]
    assert str(found.origin) == "/etc/a.conf:2"
    assert [(value, str(origin)) for value, origin in found.earlier] == [("1", "/etc/a.conf:1")]


PIECES = st.sampled_from(
    ["a", "b c", "$X", "${X}", "${N:-z}", "${N-y}", "${X:+w}", "\\$", "\\\\", *"#=/.;|~*é"]
)
LINES = st.tuples(st.sampled_from("ABCX"), st.lists(PIECES, max_size=6), st.sampled_from("'\""))


@given(st.lists(LINES, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_quoted_values_are_what_the_shell_of_this_machine_makes_of_them(lines):
    text = "".join(f"CVMFS_{name}={quote}{''.join(parts)}{quote}\n" for name, parts, quote in lines)
    names = sorted({name for name, _, _ in lines})
    script = text + "".join(f'printf "%s\\n" "$CVMFS_{name}"\n' for name in names)
    shell = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, env={"X": "7"}, check=True, timeout=10
    )
    expected = dict(zip(names, shell.stdout.decode().split("\n"), strict=False))
    assert values(text, {"X": "7"}) == expected


@given(st.text(alphabet="AB=;|&$(){}[]'\"\\`#<>!.\n \tifthenelsefi/:-+", max_size=80))
@settings(max_examples=300, deadline=None)
def test_whatever_a_file_says_it_is_read_or_refused(text):
    with contextlib.suppress(ConfigError):
        evaluate(text)
