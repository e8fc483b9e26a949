"""Promises about the house itself: its documents, its commands and its habits."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src/cernvm"

_spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts/reference.py")
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

COMMANDS = dict(reference.commands())
LISTINGS = {"ls", "tags", "status", "keys"}


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_with_an_example(path):
    command = COMMANDS[path]

    assert command.help
    if not isinstance(command, click.Group):
        shown = command.get_help(click.Context(command, info_name=path))
        assert "Example" in shown


@pytest.mark.parametrize(
    "path",
    [
        path
        for path, command in COMMANDS.items()
        if path.split()[-1] in LISTINGS and not isinstance(command, click.Group)
    ],
)
def test_every_listing_speaks_json(path):
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}

    assert "--json" in options


@pytest.mark.parametrize("page", reference.pages())
def test_the_reference_is_what_the_code_says(page):
    assert (ROOT / "docs/reference" / page).read_text() == reference.pages()[page], (
        "run `make reference`"
    )


def test_the_help_imports_no_room():
    script = (
        "import sys; sys.argv = ['cvm', '--help']\n"
        "from cernvm.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted(m for m in sys.modules if m.startswith('cernvm.')), file=sys.stderr)\n"
        "heavy = {'boto3', 'slixmpp', 'sqlalchemy', 'starlette', 'rich', 'structlog', 'asyncio'}\n"
        "print('HEAVY', *(heavy & set(sys.modules)), file=sys.stderr)\n"
    )

    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True
    )

    rooms = {name.split(".")[1] for name in shown.stderr.splitlines()[0].split()}
    assert rooms == {"cli", "core"}
    assert shown.stderr.splitlines()[1].strip() == "HEAVY"


def test_the_lives_of_the_architecture_name_real_functions():
    named = re.findall(
        r"`(src/cernvm/[\w/]+\.py):([\w.]+)`", (ROOT / "ARCHITECTURE.md").read_text()
    )

    assert len(named) >= 24
    missing = [f"{path}:{name}" for path, name in named if not _defines(ROOT / path, name)]
    assert not missing


def _defines(path, dotted):
    if not path.exists():
        return False
    body = ast.parse(path.read_text()).body
    for part in dotted.split("."):
        found = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and node.name == part
        ]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_every_link_of_the_documents_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


ATTACKS = ROOT / "docs/reference/attacks.md"
NAMED = re.findall(r"`(tests/\S+\.py)::(\w+)`", ATTACKS.read_text())


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_test_of_every_attack_exists(file, test):
    body = ast.parse((ROOT / file).read_text()).body
    assert test in {node.name for node in body if isinstance(node, ast.FunctionDef)}


def test_every_file_of_attacks_on_the_file_system_is_in_the_table():
    folders = [*(ROOT / "tests/attack").glob("fs_*"), ROOT / "tests/attack/net"]
    files = {str(one.relative_to(ROOT)) for each in folders for one in each.glob("test_*.py")}
    assert files <= {file for file, _ in NAMED}


def test_no_module_has_a_name_that_says_nothing():
    empty = {"util", "utils", "helper", "helpers", "common", "misc", "base", "manager", "handler"}

    assert not [path for path in SOURCE.rglob("*.py") if path.stem in empty]


def test_a_broad_except_stands_only_where_a_process_must_survive():
    allowed = {"cli/main.py", "fs/fuse/session.py", "fs/mount/follow.py"}
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _raises_again(node)
    }

    assert found <= allowed


def _is_broad(handler):
    names = (
        {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
        if handler.type
        else set()
    )
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def _raises_again(handler):
    return isinstance(handler.body[-1], ast.Raise)
