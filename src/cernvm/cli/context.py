"""`cvm context`: render templates, check user-data, list templates and keys."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from cernvm.cli.main import Edge
from cernvm.cli.output import json_option, print_json, print_rows
from cernvm.context.encoding import MAX_TEXT_BYTES
from cernvm.context.finding import Finding, Severity, did_you_mean
from cernvm.context.library import find_template, list_templates, read_template, search_path
from cernvm.context.reading import Reading, read_context
from cernvm.context.schema import load_schema
from cernvm.context.template import render, variables_of
from cernvm.core.errors import ContextFormatError, InvalidInputError, NotFoundError


@click.group(epilog="Example: cvm context check worker.txt")
def context() -> None:
    """Render templates and read user-data."""


@context.command(
    "render", epilog="Example: cvm context render evgen INDEX=1 BUS_SERVER=10.77.0.1:5222"
)
@click.argument("template")
@click.argument("variables", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--lenient",
    is_flag=True,
    help="As the original: unknown variables are empty, unbalanced tags vanish.",
)
@click.pass_obj
def render_command(edge: Edge, *, template: str, variables: tuple[str, ...], lenient: bool) -> None:
    """Print the user-data that TEMPLATE gives with these variables.

    TEMPLATE is a name on the search path or a path; INDEX is 1 unless given. KEY=@FILE takes the value from a file, so
    that a secret is no argument.
    """
    path = find_template(template, search_path(os.environ, edge.home))
    text = read_template(path)
    given = {name: _value(text) for name, text in parse_variables(variables).items()}
    known = variables_of(text) | {"INDEX"}
    for name in given:
        if not lenient and name not in known:
            raise InvalidInputError(
                f"{path.name} has no variable {name}",
                advice=did_you_mean(name, known) or f"it has {', '.join(sorted(known))}",
            )
    click.echo(render(text, {"INDEX": "1", **given}, lenient=lenient, where=path.name), nl=False)


@context.command("check", epilog="Example: cvm context render evgen … | cvm context check -")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--lines", "show_lines", is_flag=True, help="Show who reads each line.")
@json_option
def check_command(*, file: Path, show_lines: bool, as_json: bool) -> None:
    """Say what is wrong in the user-data of FILE (`-`: standard input), and who reads each line.

    Ends with status 53 when an instance would refuse it.
    """
    reading = read_context(_read(file))
    if as_json:
        print_json(_lines(reading) if show_lines else [asdict(one) for one in reading.findings])
    elif show_lines:
        print_rows(_lines(reading), columns=("line", "reader", "remarks"), as_json=False)
    else:
        for finding in reading.findings:
            found = f", found {finding.found!r}" if finding.found else ""
            click.echo(f"{finding}{found}")
        _say_readers(reading)
    errors = [one for one in reading.findings if one.severity is Severity.ERROR]
    if errors:
        raise ContextFormatError(
            f"{len(errors)} {'errors' if len(errors) > 1 else 'error'}: an instance applies nothing of it",
            where=str(file),
            advice="mend the lines named above",
        )


@context.command("ls", epilog="Example: cvm context ls --json")
@json_option
@click.pass_obj
def ls_command(edge: Edge, *, as_json: bool) -> None:
    """List the templates on the search path.

    $CVM_TEMPLATE_PATH, the working folder, $CVM_HOME/templates, ~/.cvm
    """
    rows = []
    for name, path in list_templates(search_path(os.environ, edge.home)).items():
        variables = sorted(variables_of(read_template(path)))
        rows.append({"name": name, "variables": " ".join(variables), "path": str(path)})
    print_rows(rows, columns=("name", "variables", "path"), as_json=as_json)


@context.command("keys", epilog="Example: cvm context keys cernvm")
@click.argument("section", default="")
@json_option
def keys_command(*, section: str, as_json: bool) -> None:
    """List the sections and keys that user-data may have; all of SECTION with their help."""
    schema = load_schema()
    if section and section not in schema.sections:
        raise NotFoundError(
            "section",
            section,
            advice=did_you_mean(section, schema.sections)
            or f"known are {', '.join(schema.sections)}",
        )
    rows = [
        {
            "section": key.section,
            "key": key.name,
            "required": "yes" if key.is_required else "",
            "value": key.kind.expected,
            "default": key.default,
            "example": key.example,
            "help": key.help,
        }
        for key in schema.all_keys()
        if section in ("", key.section)
    ]
    columns = ("section", "key", "required", "example") if not section else ("key", "help")
    print_rows(rows, columns=columns, as_json=as_json)


def parse_variables(arguments: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` arguments as a mapping. Errors: `InvalidInputError` naming the argument's key only."""
    found: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise InvalidInputError(f"{name!r} is no variable", advice="write KEY=VALUE")
        if name in found:
            raise InvalidInputError(f"{name} is given twice")
        found[name] = value
    return found


def _value(text: str) -> str:
    if not text.startswith("@"):
        return text
    raw = _read(Path(text[1:]))
    if len(raw) > MAX_TEXT_BYTES:
        raise InvalidInputError(f"{text[1:]} is larger than {MAX_TEXT_BYTES} bytes")
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{text[1:]} is not UTF-8 text") from None


def _read(file: Path) -> bytes:
    limit = MAX_TEXT_BYTES + 1
    if str(file) == "-":
        return sys.stdin.buffer.read(limit)
    try:
        with file.open("rb") as source:
            return source.read(limit)
    except FileNotFoundError:
        raise NotFoundError("file", str(file), advice="check the name") from None
    except IsADirectoryError:
        raise InvalidInputError(f"{file} is a folder", advice="name a file in it") from None


def _lines(reading: Reading) -> list[dict[str, object]]:
    """Each line's reader and what is to say about it; the line itself may hold a secret and is not shown."""
    remarks: dict[int, list[Finding]] = {}
    for finding in reading.findings:
        remarks.setdefault(finding.line, []).append(finding)
    return [
        {
            "line": line,
            "reader": str(reader),
            "remarks": "; ".join(one.remark for one in remarks.get(line, ())),
        }
        for line, reader in enumerate(reading.readers, start=1)
    ]


def _say_readers(reading: Reading) -> None:
    counts: dict[str, int] = {}
    for reader in reading.readers:
        counts[str(reader)] = counts.get(str(reader), 0) + 1
    told = ", ".join(f"{count} by {reader}" for reader, count in counts.items())
    click.echo(f"{len(reading.readers)} lines are read{': ' + told if told else ''}")
