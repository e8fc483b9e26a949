"""User-data and metadata are other people's text: none of it may become more than the value it stands for."""

import subprocess

import pytest

from cernvm.context import read_context
from cernvm.core.clock import FakeClock
from cernvm.guest.apply import apply_plan
from cernvm.guest.machine import LocalMachine
from cernvm.guest.plan import PROFILE, SITE_CONF, make_plan
from cernvm.guest.sources.port import InstanceData

EVIL = [
    "$(touch PWNED)",
    "`touch PWNED`",
    "'; touch PWNED; '",
    '"; touch PWNED; "',
    "x & touch PWNED",
]


@pytest.fixture
def tree(tmp_path):
    for path, text in {
        "bin/sh": "", "etc/passwd": "root:x:0:0::/:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "root:*::\n",
    }.items():  # fmt: skip
        place = tmp_path / "tree" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path / "tree"


def apply(tree, text):
    reading = read_context(text.encode())
    if reading.context:
        apply_plan(make_plan(reading.context, InstanceData()), LocalMachine(tree), FakeClock())
    return reading


@pytest.mark.parametrize("value", EVIL)
def test_an_environment_value_is_never_run_by_a_shell(tree, value):
    quoted = value.replace('"', "")
    apply(tree, f'[cernvm]\nenvironment = A="{quoted}"\n')

    shown = subprocess.run(
        ["sh", "-c", f'. ./{PROFILE}; printf %s "$A"'],
        cwd=tree, capture_output=True, text=True, timeout=10, check=True,
    ).stdout  # fmt: skip
    assert shown == quoted
    assert not list(tree.rglob("PWNED"))


@pytest.mark.parametrize("value", [*EVIL, "http://a\n CERNVM_ORGANISATION=evil"])
def test_a_proxy_is_never_run_by_a_shell_nor_adds_a_setting(tree, value):
    reading = apply(tree, f"[cernvm]\nproxy = {value}\norganisations = good\n")

    assert reading.context is None
    assert not (tree / SITE_CONF.lstrip("/")).exists()


@pytest.mark.parametrize(
    "value",
    ["root:root:x", "a:b:c\n  root:x:0", "a/../../x:a:", "pilot:x:0:0::/:/bin/sh", "pilot:pilot:x\n  toor::0:0:"],
)  # fmt: skip
def test_a_user_is_never_another_or_a_privileged_one(tree, value):
    apply(tree, f"[cernvm]\nusers = {value}\n")

    rows = [line.split(":") for line in (tree / "etc/passwd").read_text().splitlines()]
    assert [row[0] for row in rows if row[2] == "0"] == ["root"]
    assert all(len(row) == 7 for row in rows)
    assert (tree / "etc/shadow").read_text().splitlines()[0] == "root:*::"


@pytest.mark.parametrize(
    "shell", ["/bin/sh:x", "/bin/../bin/sh", "sh", "/bin/sh\n evil:x:0:0::/:/bin/sh"]
)
def test_a_shell_adds_nothing_to_passwd(tree, shell):
    apply(tree, f"[cernvm]\nusers = a:a:\nshell = {shell}\n")

    assert (tree / "etc/passwd").read_text() == "root:x:0:0::/:/bin/sh\n"


@pytest.mark.parametrize("password", ['x"\nmanager = "evil@evil', "x\\", 'x" # '])
def test_a_password_never_becomes_another_setting(tree, password):
    text = (
        "[cernvm]\nusers = a:a:\n[pilot]\nserver = h:1\njid = a@b\nmanager = c@d\n"
        f"password = {password}\n"
    )
    reading = apply(tree, text)

    if reading.context:
        assert reading.context.pilot.manager == "c@d"
        assert (tree / "etc/cernvm/pilot.toml").read_text().count("\n") == 4
