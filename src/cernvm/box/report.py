"""What the main job produced: values, `report.json` for programs, `report.html` for people.

Source: docs/tutorials/demo.md, "The report".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cernvm.box.page import page
from cernvm.box.timeline import Bar
from cernvm.core.errors import InvalidInputError
from cernvm.core.home import ensure_folder, write_atomically

DONE = "done"


@dataclass(frozen=True, slots=True)
class StepTaken:
    """One step of the story. Units: seconds, `started_s` since the first step began."""

    name: str
    command: str
    started_s: float
    seconds: float
    result: str


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as it ended. Units: seconds since the first step began; `agent` is the instance that did it."""

    job: str
    name: str
    state: str
    agent: str
    attempts: int
    started_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Output:
    """One file that was checked: its digest against the storage's, its events by reading them."""

    job: str
    path: Path
    events: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Report:
    """The whole result.

    Errors: `InvalidInputError` when two outputs are the same, which no two seeds may give.
    """

    jobs: Sequence[JobRow]
    outputs: Sequence[Output]
    plots: Sequence[Path]
    steps: Sequence[StepTaken]
    revisions: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len({output.sha256 for output in self.outputs}) != len(self.outputs):
            raise InvalidInputError("two jobs wrote the same output; their seeds must differ")

    @property
    def jobs_done(self) -> int:
        """How many jobs ended well."""
        return sum(job.state == DONE for job in self.jobs)

    @property
    def events_total(self) -> int:
        """The events in all outputs."""
        return sum(output.events for output in self.outputs)


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write `report.json` and `report.html`; returns their paths."""
    ensure_folder(folder)
    as_json, as_html = folder / "report.json", folder / "report.html"
    document = to_document(report)
    write_atomically(as_html, to_page(report).encode())
    write_atomically(as_json, json.dumps(document, indent=2, default=str).encode())
    return as_json, as_html


def to_document(report: Report) -> dict[str, Any]:
    """The report as JSON: paths absolute."""
    return {
        "jobs_total": len(report.jobs),
        "jobs_done": report.jobs_done,
        "events_total": report.events_total,
        "outputs": [asdict(output) for output in report.outputs],
        "plots": list(report.plots),
        "steps": [{"name": step.name, "seconds": round(step.seconds, 3)} for step in report.steps],
        "jobs": [asdict(job) for job in report.jobs],
        "revisions": list(report.revisions),
    }


def to_page(report: Report) -> str:
    """The report as one HTML file that needs no other."""
    outputs = {output.job: output for output in report.outputs}
    steps = [Bar("steps", step.name, step.started_s, step.seconds) for step in report.steps]
    jobs = [
        Bar(job.agent, job.name, job.started_s, job.seconds, ok=job.state == DONE)
        for job in sorted(report.jobs, key=lambda job: (job.agent, job.started_s))
    ]
    return page(
        report=report,
        outputs=outputs,
        pictures=[path.read_bytes() for path in report.plots],
        steps=steps,
        jobs=jobs,
    )
