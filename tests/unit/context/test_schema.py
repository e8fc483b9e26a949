import re
from pathlib import Path

import pytest

from cernvm.context import read_context
from cernvm.context.reading import Context, PilotAccess
from cernvm.context.reference import keys_page
from cernvm.context.schema import load_schema

PAGE = Path(__file__).parents[3] / "docs/reference/context-keys.md"
KEYS = list(load_schema().all_keys())


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.section}.{key.name}")
def test_every_example_is_a_valid_value(key):
    assert key.kind.parse(key.example)
    assert not key.default or key.kind.parse(key.default)


def test_a_context_of_all_examples_is_valid():
    text = "".join(
        f"[{section.name}]\n"
        + "".join(f"{key.name} = {key.example}\n" for key in section.keys.values())
        for section in load_schema().sections.values()
        if section.name != "amiconfig"
    )

    assert read_context(text.encode()).context is not None


def test_no_name_is_both_applied_and_left_for_later():
    schema = load_schema()

    assert not schema.later_sections & set(schema.sections)
    assert not any(section.later & set(section.keys) for section in schema.sections.values())
    assert all(re.fullmatch(r"[a-z0-9_-]+", key.name) for key in KEYS)


def test_the_pilots_keys_are_those_of_its_access():
    assert set(load_schema().sections["pilot"].keys) == set(PilotAccess.__slots__)
    assert "pilot" in Context.__slots__


def test_the_reference_page_is_fresh():
    assert PAGE.read_text() == keys_page(), (
        "run: python -m cernvm.context.reference > docs/reference/context-keys.md"
    )
