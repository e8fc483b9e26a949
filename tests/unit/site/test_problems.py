import pytest

from cernvm.core import errors
from cernvm.site.problems import CODES, problem


@pytest.mark.parametrize("leaf", list(errors.leaves()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_and_a_status(leaf):
    code, status = CODES[leaf]

    assert code.isalnum()
    assert 400 <= status < 600


@pytest.mark.parametrize(
    "leaf", [leaf for leaf in errors.leaves() if issubclass(leaf, errors.UserError)]
)
def test_clients_do_not_repeat_what_only_they_can_mend(leaf):
    if leaf is not errors.ConfigError:  # the site's own configuration, not the client's
        assert CODES[leaf][1] < 500


@pytest.mark.parametrize(
    ("kind", "code"),
    [("instance", "InvalidInstanceID.NotFound"), ("image", "InvalidAMIID.NotFound"), ("action", "InvalidAction")],
)  # fmt: skip
def test_what_is_missing_decides_the_code(kind, code):
    assert problem(errors.NotFoundError(kind, "x")).code == code


def test_the_advice_reaches_the_client():
    assert "do this" in problem(errors.DeniedError("no", advice="do this")).message


def test_an_error_of_a_group_gets_the_groups_code():
    assert problem(errors.ConflictError("late")).code == "IncorrectInstanceState"
