import re
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.pages.charts import Margins, Scale, Series, epoch_ticks, inline, line, round_ticks, standalone


@given(st.floats(0, 100), st.floats(0, 100))
def test_ticks_enclose_the_data(one: float, other: float) -> None:
    low, high = sorted((one, other))
    ticks = round_ticks(low, high, 5)
    assert ticks[0] <= low
    assert ticks[-1] >= high - 1e-6
    assert 2 <= len(ticks) <= 8
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0])


def test_epochs_are_thinned_and_the_first_and_last_stay() -> None:
    assert epoch_ticks([3, 6, 9], 10) == [3, 6, 9]
    thin = epoch_ticks(list(range(1, 241)), 10)
    assert (thin[0], thin[-1], len(thin)) == (1, 240, 10)


def test_a_scale_maps_the_data_to_the_plot() -> None:
    scale = Scale(200, 100, (0, 10), (20, 40), Margins(top=10, right=20, bottom=30, left=40))
    assert (scale.y(20), scale.y(40)) == (70, 10)
    assert 40 < scale.x(0) < scale.x(10) < 180
    assert Scale(200, 100, (5, 5), (0, 1), Margins(top=10, right=20, bottom=30, left=40)).x(5) == 110


def test_a_long_line_has_no_markers() -> None:
    series = Series("left", "7 4", "circle")
    assert line(series, [(1.0, 2.0)] * 60).count('class="dot"') == 60
    assert "dot" not in line(series, [(1.0, 2.0)] * 61)


def test_a_file_has_the_colours_that_a_page_has_in_light_mode() -> None:
    """A page's chart takes them from CSS variables; a file has them written out."""
    parts = ['<g class="left"></g>']
    text = standalone(200, 100, 'a "label"', parts)
    assert "svg .left { color: #12171d; }" in text
    assert '<rect width="100%" height="100%" fill="#ffffff"/>' in text
    assert not re.search(r"var\(|#0e1216", text)
    assert inline(200, 100, 'a "label"', parts).splitlines()[0].endswith('aria-label="a &#34;label&#34;">')


def test_a_file_is_valid_whatever_a_name_contains() -> None:
    odd = "a\x07\x1b[31m\ud800\uffff ü 🙂"
    text = standalone(200, 100, odd, [f"<text>{odd}</text>"])
    root = ElementTree.fromstring(text.encode())
    assert root.attrib["aria-label"] == root[-1].text == "a��[31m�� ü 🙂"
