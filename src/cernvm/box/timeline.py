"""A time line as geometry: which bar lies where, and where the axis has its marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ROW_HEIGHT = 24
BAR_HEIGHT = 16
LABEL_WIDTH = 190
AXIS_HEIGHT = 26
MIN_BAR_WIDTH = 2.0
_MARKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_MOST_MARKS = 10


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that took time. Units: seconds since the beginning; bars of one `lane` share a row."""

    lane: str
    label: str
    started_s: float
    seconds: float
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Box:
    """A bar's rectangle. Units: pixels of the drawing."""

    x: float
    y: float
    width: float
    bar: Bar


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line of the axis."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row's label."""

    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """A drawing of `width` times `height` pixels."""

    width: int
    height: int
    rows: Sequence[Row]
    boxes: Sequence[Box]
    marks: Sequence[Mark]


def draw(bars: Sequence[Bar], *, width: int, one_row_each: bool = False) -> Timeline:
    """Lay bars out over a common axis that begins at the first and ends with the last.

    Shape: a row for each lane in order of appearance, or for each bar.
    """
    begin = min((bar.started_s for bar in bars), default=0.0)
    end = max((bar.started_s + bar.seconds for bar in bars), default=1.0)
    span = max(end - begin, 0.001)
    scale = (width - LABEL_WIDTH - 10) / span
    lanes = list(range(len(bars))) if one_row_each else _lanes(bar.lane for bar in bars)
    boxes = [
        Box(
            x=LABEL_WIDTH + (bar.started_s - begin) * scale,
            y=lane * ROW_HEIGHT + (ROW_HEIGHT - BAR_HEIGHT) / 2,
            width=max(MIN_BAR_WIDTH, bar.seconds * scale),
            bar=bar,
        )
        for lane, bar in zip(lanes, bars, strict=True)
    ]
    names = {
        lane: bar.label if one_row_each else bar.lane for lane, bar in zip(lanes, bars, strict=True)
    }
    rows = [Row(lane * ROW_HEIGHT + ROW_HEIGHT / 2, name) for lane, name in names.items()]
    marks = [Mark(LABEL_WIDTH + at * scale, _seconds(at)) for at in _mark_times(span)]
    return Timeline(width, len(rows) * ROW_HEIGHT + AXIS_HEIGHT, rows, boxes, marks)


def _lanes(names: Iterable[str]) -> list[int]:
    known: dict[str, int] = {}
    return [known.setdefault(name, len(known)) for name in names]


def _mark_times(span_s: float) -> list[float]:
    every = next((step for step in _MARKS if span_s / step <= _MOST_MARKS), span_s / _MOST_MARKS)
    return [number * every for number in range(int(span_s / every) + 1)]


def _seconds(at_s: float) -> str:
    if at_s >= 120:
        return f"{at_s / 60:g} min"
    return f"{at_s:.1f} s" if at_s % 1 else f"{at_s:.0f} s"
