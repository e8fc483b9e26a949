"""What user-data means: a `Context`, or the findings that forbid one.

All or nothing: a context with an error anywhere is not applied at all, so that a typo is seen at once and not when
the jobs fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cernvm.context.encoding import unwrap
from cernvm.context.finding import Finding, Severity, did_you_mean, in_order
from cernvm.context.kinds import Account, Command
from cernvm.context.schema import Key, Schema, SectionSchema, load_schema
from cernvm.context.template import variables_of
from cernvm.context.userdata import Option, Reader, Section, UserData, parse
from cernvm.core.errors import ContextFormatError


@dataclass(frozen=True, slots=True)
class PilotAccess:
    """How the pilot agent reaches its job manager."""

    server: str
    jid: str
    manager: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Context:
    """The role of an instance: everything its user-data asks for, checked."""

    organisations: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    users: tuple[Account, ...] = ()
    shell: str = ""
    proxy: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    command: Command | None = None
    hostname: str = ""
    pilot: PilotAccess | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """User-data read: its context, or None where an error forbids it; every finding; every line's reader."""

    context: Context | None
    findings: tuple[Finding, ...]
    readers: tuple[Reader, ...] = ()


def read_context(data: bytes) -> Reading:
    """Read user-data as a cloud hands it over; never raises."""
    try:
        text = unwrap(data).text
    except ContextFormatError as error:
        return Reading(None, (Finding(max(1, error.line), Severity.ERROR, error.reason),))
    written = parse(text)
    schema = load_schema()
    findings = list(written.findings)
    values: dict[str, dict[str, Any]] = {}
    for name, sections in _by_name(written).items():
        if section := schema.sections.get(name):
            findings.extend(_read_section(section, sections, values.setdefault(name, {})))
        else:
            findings.append(_unknown_section(sections[0], schema))
    findings.extend(_plugin_names(values, written, schema))
    disabled = values.get("amiconfig", {}).get("disabled_plugins", ())
    findings.extend(_disabled(written, disabled))
    for name in disabled:
        values.pop(name, None)
    findings.extend(_across(values, written))
    context = None
    if not any(finding.severity is Severity.ERROR for finding in findings):
        context = _build(values)
    return Reading(context, in_order(findings), _readers(written, findings))


def _by_name(written: UserData) -> dict[str, list[Section]]:
    groups: dict[str, list[Section]] = {}
    for section in written.sections:
        groups.setdefault(section.name, []).append(section)
    return groups


def _unknown_section(section: Section, schema: Schema) -> Finding:
    if section.name in schema.later_sections:
        return Finding(
            section.line, Severity.WARNING, f"[{section.name}] is not applied by this version"
        )
    known = [*schema.sections, *schema.later_sections]
    return Finding(
        section.line,
        Severity.ERROR,
        f"there is no section [{section.name[:64]}]",
        suggestion=did_you_mean(section.name, known) or f"known are {', '.join(schema.sections)}",
    )


def _read_section(
    section: SectionSchema, written: list[Section], values: dict[str, Any]
) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for option in (option for part in written for option in part.options):
        key = section.keys.get(option.key)
        if key is None:
            yield _unknown_key(section, option)
            continue
        if option.key in seen:
            line = seen[option.key]
            message = f"given in line {line} too; this one counts"
            yield _about(key, option, Severity.WARNING, message)
        seen[option.key] = option.line
        if variables_of(option.value):
            message = "looks like a template that was not rendered"
            yield _about(key, option, Severity.WARNING, message, "use `cvm context render`")
        try:
            if option.value:
                values[key.name] = key.kind.parse(option.value)
            elif key.is_required:
                yield _about(key, option, Severity.ERROR, f"is empty; expected {key.kind.expected}")
            else:
                values.pop(key.name, None)
                yield _about(key, option, Severity.WARNING, "is empty")
        except ValueError as error:
            yield _mismatch(key, option, str(error))
    for key in section.keys.values():
        if key.is_required and key.name not in seen:
            yield Finding(
                written[0].line,
                Severity.ERROR,
                "is missing",
                key=f"{section.name}.{key.name}",
                suggestion=f"add {key.name} = {key.example}",
                reader=Reader.GUEST,
            )


def _unknown_key(section: SectionSchema, option: Option) -> Finding:
    if option.key in section.later:
        message, severity, hint = "is not applied by this version", Severity.WARNING, ""
    else:
        message, severity = "there is no such key", Severity.ERROR
        hint = did_you_mean(option.key, [*section.keys, *section.later])
        hint = hint or f"known are {', '.join(section.keys)}"
    return Finding(
        option.line, severity, message, key=f"{section.name}.{option.key[:64]}", suggestion=hint
    )


def _mismatch(key: Key, option: Option, reason: str) -> Finding:
    message = f"{reason}; expected {key.kind.expected}"
    hint = f"for example {key.name} = {key.example}"
    found = "" if key.is_secret else _short(option.value)
    return replace(_about(key, option, Severity.ERROR, message, hint), found=found)


def _about(
    key: Key, option: Option, severity: Severity, message: str, suggestion: str = ""
) -> Finding:
    return Finding(
        option.line,
        severity,
        message,
        key=f"{key.section}.{key.name}",
        suggestion=suggestion,
        column=option.column,
        reader=Reader.GUEST,
    )


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:59]}…"


def _plugin_names(
    values: Mapping[str, Mapping[str, Any]], written: UserData, schema: Schema
) -> Iterator[Finding]:
    known = {*schema.sections, *schema.later_sections}
    keys = (("plugins", Severity.WARNING), ("disabled_plugins", Severity.ERROR))
    for key, severity in keys:
        for name in values.get("amiconfig", {}).get(key, ()):
            if name not in known:
                yield Finding(
                    _line_of(written, "amiconfig", key),
                    severity,
                    "names a section that does not exist",
                    key=f"amiconfig.{key}",
                    suggestion=did_you_mean(name, known),
                    reader=Reader.GUEST,
                )


def _disabled(written: UserData, disabled: tuple[str, ...]) -> Iterator[Finding]:
    for section in written.sections:
        if section.name in disabled:
            yield Finding(
                section.line, Severity.NOTE, f"[{section.name}] is disabled by [amiconfig]"
            )


def _across(values: Mapping[str, Mapping[str, Any]], written: UserData) -> Iterator[Finding]:
    """What no key shows alone: who runs the command, whom the pilot's configuration belongs to."""
    cernvm = values.get("cernvm", {})
    users = [account.user for account in cernvm.get("users", ())]
    command: Command | None = cernvm.get("contextualization_command")
    if command and command.user not in users:
        yield Finding(
            _line_of(written, "cernvm", "contextualization_command"),
            Severity.ERROR,
            f"no user {command.user!r} is created",
            key="cernvm.contextualization_command",
            reader=Reader.GUEST,
            suggestion=did_you_mean(command.user, users)
            or f"add it to users = {command.user}:{command.user}:",
        )
    if "pilot" in values and not users:
        yield Finding(
            _line_of(written, "pilot"),
            Severity.ERROR,
            "[pilot] needs a user that owns its configuration",
            suggestion="add users = pilot:pilot: to [cernvm]",
            reader=Reader.GUEST,
        )


def _line_of(written: UserData, name: str, key: str = "") -> int:
    """The line of a section's first header, or of a key's last, effective, occurrence."""
    sections = [section for section in written.sections if section.name == name]
    lines = [option.line for part in sections for option in part.options if option.key == key]
    return lines[-1] if lines else sections[0].line


def _readers(written: UserData, findings: list[Finding]) -> tuple[Reader, ...]:
    """Who reads each line, now that it is known which sections and keys nobody does."""
    readers = list(written.readers)
    unread = {finding.line for finding in findings if finding.reader == Reader.NOBODY}
    starts = {
        line
        for section in written.sections
        for line in (section.line, *(option.line for option in section.options))
    }
    headers = {section.line for section in written.sections}
    section_is_read = option_is_read = True
    for index, reader in enumerate(readers):
        line = index + 1
        if line in headers:
            section_is_read = option_is_read = line not in unread
        elif line in starts:
            option_is_read = section_is_read and line not in unread
        if reader is Reader.GUEST and not option_is_read:
            readers[index] = Reader.NOBODY
    return tuple(readers)


def _build(values: Mapping[str, Mapping[str, Any]]) -> Context:
    cernvm = values.get("cernvm", {})
    pilot = values.get("pilot")
    shell = load_schema().sections["cernvm"].keys["shell"].default
    return Context(
        organisations=cernvm.get("organisations", ()),
        repositories=cernvm.get("repositories", ()),
        users=cernvm.get("users", ()),
        shell=cernvm.get("shell", shell),
        proxy=cernvm.get("proxy", ""),
        environment=cernvm.get("environment", ()),
        command=cernvm.get("contextualization_command"),
        hostname=values.get("hostname", {}).get("hostname", ""),
        pilot=PilotAccess(**pilot) if pilot is not None else None,
    )
