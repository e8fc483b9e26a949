"""The reference page of all keys, generated from the schema: docs/reference/context-keys.md."""

from __future__ import annotations

import sys

from cernvm.context.schema import Key, Schema, SectionSchema, load_schema

_HEAD = """<!-- generated from src/cernvm/context/schema.toml by `python -m cernvm.context.reference`: do not edit -->
# Keys of user-data

What an instance reads, section by section (schema version {version}). How to write it:
[contexts](../how-to/contexts.md); the format in full: [user-data](../formats/user-data.md).
`cvm context keys` prints the same, `cvm context check` applies it.
"""


def keys_page() -> str:
    """The page as Markdown."""
    schema = load_schema()
    sections = "".join(_section(section) for section in schema.sections.values())
    return _HEAD.format(version=schema.version) + sections + _later(schema)


def _section(section: SectionSchema) -> str:
    rows = "".join(_row(key) for key in section.keys.values())
    later = ""
    if section.later:
        names = ", ".join(f"`{name}`" for name in sorted(section.later))
        later = f"\nKnown from the original, not applied by this version (a warning says so): {names}.\n"
    return (
        f"\n## `[{section.name}]`\n\n{section.help}\n\n"
        f"| key | value | default | what it does | example |\n|---|---|---|---|---|\n{rows}{later}"
    )


def _row(key: Key) -> str:
    marks = [
        mark
        for mark, is_set in (("required", key.is_required), ("secret", key.is_secret))
        if is_set
    ]
    name = f"`{key.name}`" + (f" ({', '.join(marks)})" if marks else "")
    default = f"`{key.default}`" if key.default else ""
    cells = (name, key.kind.expected, default, key.help, f"`{key.example}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _later(schema: Schema) -> str:
    names = ", ".join(f"`[{name}]`" for name in sorted(schema.later_sections))
    return (
        "\n## Other sections\n\n"
        f"Known from the original, not applied by this version (a warning says so): {names}.\n"
    )


if __name__ == "__main__":
    sys.stdout.write(keys_page())
