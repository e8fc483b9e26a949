"""`cvm context` as a person uses it."""

import json
import shutil
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples/evgen.tpl"
BUS = ("BUS_SERVER=h:1", "BUS_JID=a@b", "BUS_PASSWORD=geheim", "JOB_MANAGER=c@d")


@pytest.fixture
def template(home):
    home.templates.mkdir(parents=True)
    shutil.copy(EXAMPLE, home.templates)


def test_a_template_is_listed_rendered_and_checked(cvm, template, tmp_path):
    rows = json.loads(cvm("context", "ls", "--json").stdout)
    assert [row["name"] for row in rows] == ["evgen"]
    assert "BUS_PASSWORD" in rows[0]["variables"]

    (tmp_path / "password").write_text("geheim\n")
    rendered = cvm(
        "context", "render", "evgen", *BUS[:2], BUS[3], f"BUS_PASSWORD=@{tmp_path}/password"
    ).stdout
    assert rendered == cvm("context", "render", "evgen", *BUS).stdout
    assert "EVGEN_WORKER=1," in rendered
    assert "[[" not in rendered
    (tmp_path / "user-data").write_text(rendered)

    shown = cvm("context", "check", tmp_path / "user-data").stdout
    assert "17 lines are read" in shown
    assert json.loads(cvm("context", "check", "--json", tmp_path / "user-data").stdout) == []
    lines = json.loads(cvm("context", "check", "--lines", "--json", tmp_path / "user-data").stdout)
    assert {line["reader"] for line in lines} == {"guest", "people"}
    assert "geheim" not in str(lines)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("evgen", *BUS[1:]), 53, "evgen.tpl, line 14: the variable BUS_SERVER has no value"),
        (("evgen", *BUS, "PROXI=x"), 11, "did you mean PROXY?"),
        (("evgen", *BUS, "PROXY"), 11, "write KEY=VALUE"),
        (("evgen", *BUS, "PROXY=@/nowhere"), 12, "there is no file '/nowhere'"),
        (("evgn",), 12, "there is no template 'evgn'"),
    ],
)
def test_a_mistake_in_rendering_is_one_clear_sentence(cvm, template, arguments, status, said):
    ended = cvm("context", "render", *arguments, check=False)

    assert ended.returncode == status
    assert said in ended.stderr
    assert ended.stdout == ""


def test_lenient_rendering_is_the_originals(cvm, template):
    assert "server = \n" in cvm("context", "render", "evgen", "--lenient").stdout


def test_a_wrong_context_is_refused_with_line_key_expected_and_found(cvm, tmp_path):
    (tmp_path / "user-data").write_text("[cernvm]\nshell = bash\nuser = x\n")

    ended = cvm("context", "check", tmp_path / "user-data", check=False)
    rows = json.loads(cvm("context", "check", "--json", tmp_path / "user-data", check=False).stdout)

    assert ended.returncode == 53
    assert (
        "line 2: error: cernvm.shell: it is no absolute path; expected an absolute path"
        in ended.stdout
    )
    assert "found 'bash'" in ended.stdout
    assert "2 errors" in ended.stderr
    assert [(row["line"], row["key"], row["severity"]) for row in rows] == [
        (2, "cernvm.shell", "error"),
        (3, "cernvm.user", "error"),
    ]
    assert rows[1]["suggestion"] == "did you mean users?"


def test_the_lines_carry_the_whole_remark(cvm, tmp_path):
    (tmp_path / "user-data").write_text("[cernvm]\nuser = x\n")

    ended = cvm("context", "check", "--lines", tmp_path / "user-data", check=False)

    assert "error: cernvm.user: there is no such key (did you mean users?)" in ended.stdout


@pytest.mark.parametrize(("name", "said"), [(".", "is a folder"), ("absent", "there is no file")])
def test_what_is_no_file_is_told(cvm, tmp_path, name, said):
    ended = cvm("context", "check", tmp_path / name, check=False)

    assert said in ended.stderr
    assert "  → " in ended.stderr


def test_the_keys_are_listed(cvm):
    rows = json.loads(cvm("context", "keys", "pilot", "--json").stdout)

    assert [row["key"] for row in rows] == ["server", "jid", "password", "manager"]
    assert cvm("context", "keys", "pilots", check=False).returncode == 12
