import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.context.finding import Severity
from cernvm.context.userdata import Reader, parse

NAME = st.text(string.ascii_lowercase, min_size=1, max_size=8)
VALUE = st.text(
    st.characters(
        categories=["L", "N", "P", "S", "Zs"], exclude_characters="\x85\u2028\u2029\ufeff"
    ),
    max_size=20,
).map(str.strip)
DOCUMENT = st.lists(
    st.tuples(NAME.filter(lambda name: "ucernvm" not in name), st.lists(st.tuples(NAME, VALUE))),
    max_size=5,
)
LINES = st.sampled_from(
    ["[cernvm]", "[ucernvm-begin]", "[ucernvm-end]", "a = b", " c", "users =", "x: 'y", "z'", "#!/bin/sh", "exit 0",
     "# c", "", "[", "[[IF A]]", "]", "\t= ", "\r", "\x00", "\ufeff[a]", "[a] ; note", "a=b=c", "ключ = x"]
)  # fmt: skip


def options(text):
    return [
        (section.name, option.key, option.value)
        for section in parse(text).sections
        for option in section.options
    ]


def errors(text):
    return [
        (finding.line, finding.message)
        for finding in parse(text).findings
        if finding.severity is Severity.ERROR
    ]


@given(DOCUMENT)
def test_what_is_written_is_read(document):
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in rows)
        for name, rows in document
    )

    parsed = parse(text)

    assert [
        (section.name, [(option.key, option.value) for option in section.options])
        for section in parsed.sections
    ] == document
    assert not parsed.findings


@given(st.lists(LINES | st.text(max_size=10), max_size=30).map("\n".join))
def test_any_text_is_taken_apart_line_by_line(text):
    parsed = parse(text)

    lines = text.removeprefix("\ufeff").split("\n")
    assert len(parsed.readers) == len(lines) - (lines[-1] == "")
    nobody = {n for n, reader in enumerate(parsed.readers, 1) if reader is Reader.NOBODY}
    assert nobody <= {finding.line for finding in parsed.findings}


def test_a_value_goes_on_over_indented_lines():
    assert options("[cernvm]\nenvironment =\n  A=1,\n  # why\n  B=2\nshell = /bin/sh\n") == [
        ("cernvm", "environment", "A=1,\nB=2"),
        ("cernvm", "shell", "/bin/sh"),
    ]


def test_a_value_goes_on_after_an_empty_one_and_inside_a_quote():
    text = "[cernvm]\ncommand =\npanda: '/cvmfs/run -m\n/eos/copilot -t 1'\nshell = /bin/sh\n"

    assert options(text)[0] == ("cernvm", "command", "panda: '/cvmfs/run -m\n/eos/copilot -t 1'")
    assert [str(finding) for finding in parse(text).findings] == [
        f"line {line}: note: continues the value of line 2 (indent it to say so)" for line in (3, 4)
    ]


def test_an_open_quote_does_not_swallow_the_next_option():
    assert options("[ganglia]\nlocation = St. Genis l'Eglise\nport = 8649") == [
        ("ganglia", "location", "St. Genis l'Eglise"),
        ("ganglia", "port", "8649"),
    ]


def test_an_indented_document_is_no_continuation():
    assert options("[a]\n  b = 1\n  c = 2\n    more\n") == [("a", "b", "1"), ("a", "c", "2\nmore")]


def test_names_of_sections_and_keys_have_no_case():
    assert options("[CernVM]\nUsers: a:a:") == [("cernvm", "users", "a:a:")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[cernvm]\nusers pilot", 2, "neither a section"),
        ("users = a", 1, "before the first section"),
        ("[cernvm", 1, "no section header"),
        ("[]", 1, "no section header"),
        ("[cernvm] x", 1, "no section header"),
        ("[[IF PROXY]]proxy = x[[ENDIF]]", 1, "template"),
        ("[a]\nb = \x1b[31m", 2, "control character"),
        ("#!/bin/sh\nrm -rf /\nexit 0\n[a]\n", 1, "does not run"),
        ("#cloud-config\nusers: []\n", 1, "cloud-config"),
        ("Content-Type: multipart/mixed\n", 1, "MIME"),
        ("[ucernvm-begin]\ncvmfs_tag=x\n", 2, "no [ucernvm-end]"),
        ("\n" * 4001, 4001, "longer than"),
    ],
)
def test_a_line_that_nobody_can_read_is_an_error(text, line, message):
    found = errors(text)

    assert [number for number, _ in found] == [line]
    assert message in found[0][1]


def test_every_line_has_its_reader():
    text = (
        "#!/bin/sh\necho\nexit 0\n\n[ucernvm-begin]\ncvmfs_tag=x\n[ucernvm-end]\n"
        "# note\n[cernvm]\nusers =\n a:b:\nwhat is this\n"
    )

    assert parse(text).readers == (
        *[Reader.SHELL] * 3,
        Reader.PEOPLE,
        *[Reader.BOOT_LOADER] * 3,
        Reader.PEOPLE,
        *[Reader.GUEST] * 3,
        Reader.NOBODY,
    )


def test_windows_line_ends_and_byte_order_marks_are_noted_and_ignored():
    text = "\ufeff[cernvm]\r\nshell = /bin/sh\r\n"

    assert options(text) == [("cernvm", "shell", "/bin/sh")]
    assert {finding.severity for finding in parse(text).findings} == {Severity.NOTE}
