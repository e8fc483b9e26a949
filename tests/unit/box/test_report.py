"""The report says what happened, for programs and for people."""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from cernvm.box.report import JobRow, Output, Report, StepTaken, to_document, to_page, write_report
from cernvm.core.errors import InvalidInputError

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def output(number, events=1000):
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return Output(f"job-{number}", Path(f"/out/{number}.root"), events, 2_990_000 + number, digest)


def job(number, state="done", agent="i-1"):
    return JobRow(f"job-{number}", f"evgen-{number}", state, agent, 1, 10.0 + number, 3.0)


@pytest.fixture
def report(tmp_path):
    picture = tmp_path / "events.png"
    picture.write_bytes(PNG)
    return Report(
        jobs=[job(1), job(2, agent="<script>alert(1)</script>"), job(3, state="failed")],
        outputs=[output(1), output(2)],
        plots=[picture],
        steps=[StepTaken("Serving", "cvm repo serve", 0.0, 1.25, "3 services")],
        revisions=["sft.cernvm.test revision 2"],
    )


def test_the_document_counts_what_is_done(report):
    document = to_document(report)
    assert (document["jobs_total"], document["jobs_done"], document["events_total"]) == (3, 2, 2000)
    assert document["steps"] == [{"name": "Serving", "seconds": 1.25}]


def test_the_written_document_has_absolute_paths_and_different_digests(report, tmp_path):
    as_json, as_html = write_report(report, tmp_path / "report")
    document = json.loads(as_json.read_bytes())
    assert set(document) >= {"jobs_total", "jobs_done", "events_total", "outputs", "plots", "steps"}
    for row in document["outputs"]:
        assert set(row) == {"job", "path", "events", "size_bytes", "sha256"}
        assert Path(row["path"]).is_absolute()
    assert all(Path(path).is_absolute() for path in document["plots"])
    assert len({row["sha256"] for row in document["outputs"]}) == 2
    assert as_html.stat().st_size > 1000


def test_the_page_stands_alone_and_escapes_what_it_shows(report):
    page = to_page(report)
    assert "data:image/png;base64," in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert 'src="http' not in page
    assert "href=" not in page


def test_a_page_without_jobs_is_still_a_page():
    assert "0 <small>of 0</small>" in to_page(Report([], [], [], []))


def test_two_equal_outputs_are_refused():
    with pytest.raises(InvalidInputError):
        Report([job(1), job(2)], [output(1), output(1)], [], [])
