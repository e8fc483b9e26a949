import pytest

from cernvm.cli.exit import EXIT_CODES, exit_code
from cernvm.core import errors


@pytest.mark.parametrize("leaf", list(errors.leaves()), ids=lambda kind: kind.__name__)
def test_every_error_has_its_own_exit_code(leaf):
    assert leaf in EXIT_CODES
    assert list(EXIT_CODES.values()).count(EXIT_CODES[leaf]) == 1


def test_an_error_of_a_group_gets_the_groups_code():
    assert exit_code(errors.TrustError("forged")) == 20


def test_the_tree_in_the_docstring_is_the_tree():
    for leaf in errors.leaves():
        assert leaf.__name__ in errors.__doc__
