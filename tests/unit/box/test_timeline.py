"""Bars lie where their times say, inside the drawing."""

from hypothesis import given
from hypothesis import strategies as st

from cernvm.box.timeline import LABEL_WIDTH, Bar, draw

seconds = st.floats(0, 5000, allow_nan=False)
bars = st.lists(
    st.builds(Bar, st.sampled_from("abc"), st.text(max_size=3), seconds, seconds), max_size=9
)


@given(bars, st.booleans())
def test_every_bar_lies_inside_and_keeps_its_order(given_bars, one_row_each):
    drawing = draw(given_bars, width=800, one_row_each=one_row_each)
    assert len(drawing.boxes) == len(given_bars)
    for box in drawing.boxes:
        assert LABEL_WIDTH <= box.x <= 800
        assert box.x + box.width <= 801 or box.width == 2.0
        assert 0 <= box.y < drawing.height
    begins = sorted(drawing.boxes, key=lambda box: box.bar.started_s)
    assert [box.x for box in begins] == sorted(box.x for box in begins)


@given(bars)
def test_bars_of_one_lane_share_a_row(given_bars):
    drawing = draw(given_bars, width=800)
    assert [row.text for row in drawing.rows] == list(dict.fromkeys(bar.lane for bar in given_bars))


@given(bars)
def test_the_axis_has_few_marks(given_bars):
    drawing = draw(given_bars, width=800)
    assert 1 <= len(drawing.marks) <= 11
    assert all(mark.x <= 801 for mark in drawing.marks)
