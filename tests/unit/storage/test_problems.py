import pytest

from cernvm.core import errors
from cernvm.storage.problems import STATUSES, from_problem, status_of, to_problem


@pytest.mark.parametrize("leaf", list(errors.leaves()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status(leaf):
    assert 400 <= STATUSES[leaf] < 600


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFoundError("object", "a/b"),
        errors.ExistsError("object", "a/b"),
        errors.DigestMismatchError(expected="1", got="2", source="a/b"),
        errors.InvalidInputError("no path", advice="write one"),
        errors.DeniedError("no"),
        errors.SignatureError("forged"),
        errors.ExpiredError("over"),
        errors.SpaceError("full"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_http(error):
    status = status_of(error)

    back = from_problem(to_problem(error), status=status, url="http://s", path="a/b")

    assert type(back) is type(error)
    assert (back.what, back.advice) == (error.what, error.advice)


@pytest.mark.parametrize("document", [None, [], "x", {"type": 7}, {"type": "urn:x:CvmError"}])
def test_an_answer_nobody_understands_is_the_hosts_fault(document):
    error = from_problem(document, status=500, url="http://s", path="a")

    assert isinstance(error, errors.HostError)
    assert error.status == 500


def test_a_group_has_the_groups_status():
    assert status_of(errors.ConflictError("busy")) == 409
    assert status_of(errors.CvmError("?")) == 500
