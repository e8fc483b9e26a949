import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.context.kinds import KINDS, Account, Command, accounts, command, environment


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("words", "atlas, cms\nlhcb atlas", ("atlas", "cms", "lhcb")),
        ("repositories", "atlas,sft.cernvm.test", ("atlas", "sft.cernvm.test")),
        ("accounts", "a:b:c:d, e", (Account("a", "b", "c:d"), Account("e", "e"))),
        ("environment", "A=1,B=x=y,C=", (("A", "1"), ("B", "x=y"), ("C", ""))),
        ("environment", "A='x, y'\nB=\"it's\"", (("A", "x, y"), ("B", "it's"))),
        ("environment", r"A=C:\x,", (("A", r"C:\x"),)),
        ("command", "p:/bin/sh -c 'a b'", Command("p", ("/bin/sh", "-c", "a b"))),
        ("command", "panda: '/cvmfs/run -m\n/eos -t 1'",
         Command("panda", ("/cvmfs/run", "-m", "/eos", "-t", "1"))),
        ("proxy", "http://a:3128|http://b;\nDIRECT", "http://a:3128|http://b;DIRECT"),
        ("endpoint", "[fe80::1]:5222", "[fe80::1]:5222"),
        ("endpoint", "bus.example.org:1", "bus.example.org:1"),
        ("hostname", "worker-1.example.org", "worker-1.example.org"),
        ("jid", "pilot@grid.test/1", "pilot@grid.test/1"),
        ("path", "/bin/bash", "/bin/bash"),
        ("secret", "p w", "p w"),
    ],
)  # fmt: skip
def test_reads(kind, text, value):
    assert KINDS[kind].parse(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("words", "Atlas"), ("words", "a/b"),
        ("repositories", "../etc"), ("repositories", "a..b"), ("repositories", "UPPER"),
        ("accounts", "pi lot:pilot:"), ("accounts", "a:b:,a:c:"), ("accounts", "root:root:x"), ("accounts", ":g:"),
        ("accounts", "a\x00b:g:"), ("accounts", "-a:g:"),
        ("environment", "1A=x"), ("environment", "A"), ("environment", "A='x"), ("environment", "A=1,A=2"),
        ("environment", "A='x\ny'"),
        ("command", "/bin/true"), ("command", "p:bin/true"), ("command", "p:"), ("command", "p:/bin/sh 'a"),
        ("proxy", "squid:3128"), ("proxy", "http://a:99999"), ("proxy", "http://a;;DIRECT"), ("proxy", "http://a\nX=1"),
        ("endpoint", "host"), ("endpoint", "host:0"), ("endpoint", "host:65536"), ("endpoint", ":1"),
        ("endpoint", "host:0000065536"), ("endpoint", "a b:1"),
        ("hostname", "a_b"), ("hostname", "-a"), ("hostname", "a" * 65), ("hostname", "a..b"),
        ("jid", "pilot"), ("jid", "a@b@c"), ("jid", "a b@c"),
        ("path", "bin/sh"), ("path", "/bin/../etc"), ("path", "/a:b"),
        ("secret", ""), ("secret", "a\nb"),
    ],
)  # fmt: skip
def test_refuses(kind, text):
    with pytest.raises(ValueError):
        KINDS[kind].parse(text)


@pytest.mark.parametrize("text", ["a:a:geheim,B:b:geheim", "a:a:geheim,a:b:geheim"])
def test_a_password_is_shown_neither_in_errors_nor_in_values(text):
    with pytest.raises(ValueError) as caught:
        accounts(text)

    assert "geheim" not in str(caught.value)
    assert "geheim" not in repr(accounts("a:a:geheim"))


@given(st.text(max_size=60), st.sampled_from(sorted(KINDS)))
def test_any_text_is_a_value_or_refused(text, kind):
    try:
        KINDS[kind].parse(text)
    except ValueError:
        pass


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True),
                       st.text(st.characters(categories=["L", "N", "S"]), max_size=10)))  # fmt: skip
def test_variables_survive_quoting(variables):
    text = ",".join(f'{name}="{value}"' for name, value in variables.items())

    assert dict(environment(text)) == variables


def test_a_command_keeps_its_arguments():
    assert command('p:/bin/echo "" a=b').argv == ("/bin/echo", "", "a=b")
