"""The report's web page: one file, with its picture and its time lines inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cernvm.box.timeline import BAR_HEIGHT, LABEL_WIDTH, Bar, draw
from cernvm.core.units import format_bytes, format_seconds

WIDTH = 1060


def page(
    *,
    report: Any,
    outputs: Mapping[str, Any],
    pictures: Sequence[bytes],
    steps: Sequence[Bar],
    jobs: Sequence[Bar],
) -> str:
    """The page's text.

    Shape: `report` is a `report.Report`, `outputs` maps a job to its `report.Output`; everything in them is escaped.
    """
    environment = Environment(
        loader=PackageLoader("cernvm.box", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(bytes=format_bytes, seconds=format_seconds)
    return environment.get_template("page.html").render(
        report=report,
        outputs=outputs,
        pictures=[base64.b64encode(picture).decode("ascii") for picture in pictures],
        steps=draw(steps, width=WIDTH, one_row_each=True),
        jobs=draw(jobs, width=WIDTH),
        label_width=LABEL_WIDTH,
        bar_height=BAR_HEIGHT,
    )
