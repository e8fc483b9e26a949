from datetime import UTC, datetime, timedelta

import pytest

from cernvm.core.errors import InvalidInputError
from cernvm.pilot.job import Job, make_jobs

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def jobs(**changes):
    values = {
        "count": 2,
        "name": "gen-{index}",
        "command": ("evgen", "--seed", "{seed}", "--output", "{id}_0.root"),
        "outputs": ("{id}_0.root",),
        "environment": {"RUN": "{index}"},
        "first_seed": 41,
        "wall_limit_s": 60.0,
        "now": NOW,
    }
    return make_jobs(**{**values, **changes})


def test_templates_are_filled_in_per_job():
    first, second = jobs()

    assert first.command == ("evgen", "--seed", "41", "--output", f"{first.id}_0.root")
    assert second.command[2] == "42"
    assert (second.name, second.environment) == ("gen-1", {"RUN": "1"})
    assert first.outputs == (f"{first.id}_0.root",)
    assert first.id != second.id


def test_other_braces_stay_as_they_are():
    (job,) = jobs(count=1, command=("sh", "-c", "echo ${HOME} {} {x} {seed}"))

    assert job.command[2] == "echo ${HOME} {} {x} 41"


@pytest.mark.parametrize(
    "changes",
    [
        {"command": ()},
        {"command": ("",)},
        {"command": ("a\0b",)},
        {"command": ("x" * 40_000,)},
        {"outputs": ("../x",)},
        {"outputs": ("/etc/passwd",)},
        {"outputs": (".hidden",)},
        {"outputs": ("a/b",)},
        {"outputs": ("same", "same")},
        {"environment": {"A=B": "x"}},
        {"environment": {"A": "x\0"}},
        {"environment": {"xmlns": "x"}},
        {"environment": {"A": "x" * 40_000}},
        {"environment": {f"A{number}": "" for number in range(501)}},
        {"outputs": tuple(f"{number:0200}" for number in range(200))},
        {"wall_limit_s": 0.0},
        {"wall_limit_s": -1.0},
        {"wall_limit_s": float("nan")},
        {"wall_limit_s": float("inf")},
    ],
)
def test_a_job_that_could_not_run_cannot_exist(changes):
    with pytest.raises(InvalidInputError):
        jobs(**changes)


def test_a_job_lasts_from_its_start_to_its_end():
    job = Job("1", "", ("true",), started_at=NOW, ended_at=NOW + timedelta(seconds=7))

    assert job.duration_s(NOW + timedelta(seconds=99)) == 7
    assert Job("1", "", ("true",)).duration_s(NOW) is None
