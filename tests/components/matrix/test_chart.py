import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from components.matrix.chart import NARROW, WIDE, chart_file, inline_chart, legend
from components.matrix.gains import Point
from components.matrix.published_results import Published

BOTH = [
    Point("1/16", 23, "cps", (0.57, 0.56, 0.62)),
    Point("1/8", 46, "cps", (0.66, 0.67, 0.68)),
    Point("1/16", 23, "supervised", (0.58, 0.54, 0.64)),
    Point("1/8", 46, "supervised", (0.60, 0.61, 0.62)),
]
REFERENCES = [Published("theirs & <others>", "their paper", {"1/8": 0.7, "1/2": 0.8})]
SVG = "{http://www.w3.org/2000/svg}"


def bars(svg: str) -> dict[str, list[tuple[float, float, float]]]:
    """Return (x, top, bottom) of each method's bars."""
    found = re.findall(r'class="whisker (cps|supervised)" d="([^"]*)"', svg)
    return {
        method: [
            (float(x), float(top), float(bottom)) for x, top, bottom in re.findall(r"M(\S+) (\S+?)V([\d.]+)", path)
        ]
        for method, path in found
    }


def test_no_bar_hides_the_other_methods() -> None:
    """At 1/16 the baseline's bar spans that of CPS, at the same number of images."""
    found = bars(chart_file(BOTH, [], "streets", "label"))
    (cps, _), (supervised, _) = found["cps"], found["supervised"]
    assert supervised[0] - cps[0] == 8
    assert supervised[1] < cps[1] < cps[2] < supervised[2]


def test_bars_are_one_standard_deviation_to_the_scale_of_the_ticks() -> None:
    svg = str(inline_chart(BOTH, [], "label", WIDE))
    ticks = re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)<', svg)
    (low_y, low), (high_y, high) = ticks[0], ticks[-1]
    unit = (float(low_y) - float(high_y)) / (float(high) - float(low))
    (_, (_, top, bottom)) = bars(svg)["cps"]
    assert bottom - top == pytest.approx(2 * 1.0 * unit, abs=0.2), "0.66, 0.67 and 0.68 deviate by one point"
    middle = (top + bottom) / 2
    assert float(low) + (float(low_y) - 4 - middle) / unit == pytest.approx(67, abs=0.1)


def test_the_file_is_whole_and_every_curve_is_named() -> None:
    """It has a size, a background and colours of its own, and escapes the names of datasets and papers."""
    text = chart_file(BOTH, REFERENCES, 'night & <day> "streets"', "a & b")
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.attrib["viewBox"] == f"0 0 {root.attrib['width']} {root.attrib['height']}"
    background = root.find(f"{SVG}rect")
    assert background is not None
    assert background.attrib["fill"] == "#ffffff"
    written = [element.text for element in root.iter(f"{SVG}text")]
    assert written[0] == 'night & <day> "streets"'
    assert {"CPS", "supervised baseline", "theirs & <others>"} <= set(written)
    assert "var(" not in text
    assert "url(" not in text


def test_without_a_spread_there_is_no_bar() -> None:
    one_seed = [Point("1/8", 46, "cps", (0.6,))]
    text = chart_file(one_seed, REFERENCES, "streets", "label")
    assert bars(text) == {"cps": []}
    assert "One seed" in text


def test_a_published_result_appears_at_the_ratios_of_the_matrix_only() -> None:
    only_at_an_eighth = str(inline_chart(BOTH, REFERENCES, "label", NARROW))
    (path,) = re.findall(r'class="published"><polyline class="line" points="([^"]*)"', only_at_an_eighth)
    assert len(path.split()) == 1
    other = [Published("elsewhere", "a paper", {"1/2": 0.8})]
    assert "published" not in inline_chart(BOTH, other, "label", NARROW)
    assert [name for _, name in legend(BOTH, REFERENCES)] == ["CPS", "supervised baseline", "theirs & <others>"]
    assert [name for _, name in legend(BOTH, other)] == ["CPS", "supervised baseline"]


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("ratios", [1, 2, 4])
def test_everything_drawn_is_inside_the_chart(size: tuple[int, int], ratios: int) -> None:
    points = [
        Point(f"1/{16 >> number}", 100 << number, method, (0.5 + number / 20, 0.56))
        for method in ("cps", "supervised")
        for number in range(ratios)
    ]
    svg = str(inline_chart(points, REFERENCES, "label", size))
    places = re.findall(r"M([\d.-]+) ([\d.-]+)", svg)
    places += [place.split(",") for path in re.findall(r' points="([^"]+)"', svg) for place in path.split()]
    places += re.findall(r'<text[^>]* x="([\d.-]+)" y="([\d.-]+)"', svg)
    assert len(places) > 10 * ratios
    assert all(0 <= float(x) <= size[0] and 0 <= float(y) <= size[1] for x, y in places)


def test_labels_of_neighbouring_ticks_do_not_touch() -> None:
    crowded = [Point(f"{number}/32", 100 + number, "cps", (0.5,)) for number in (25, 26, 27)]
    svg = str(inline_chart([*crowded, Point("1/1", 4000, "cps", (0.6,))], [], "label", NARROW))
    assert re.findall(r'text-anchor="middle">(\d+/\d+)<', svg) == ["25/32", "1/1"]


def test_a_method_of_settings_has_a_line_for_each_and_leaves_room_for_the_plot() -> None:
    method = "cps.teacher=average+cps.strong_augmentation=0.8+optimization.learning_rate=1e+1"
    points = [*BOTH, Point("1/16", 23, method, (0.57,)), Point("1/8", 46, method, (0.61,))]
    svg = str(inline_chart(points, [], "label", WIDE))
    names = [(float(y), text) for y, text in re.findall(r'<text class="name[^"]*" x="\S+" y="([\d.]+)">([^<]*)', svg)]
    assert [text for _, text in names] == [
        "CPS",
        "cps.teacher=average",
        "+ cps.strong_augmentation=0.8",
        "+ optimization.learning_rate=1e+1",
        "supervised baseline",
    ]
    heights = [y for y, _ in names]
    assert all(below - above >= 16 for above, below in pairwise(heights))
    assert heights[-1] < WIDE[1]
    assert max(float(x) for x in re.findall(r"M(\S+) \S+?V", svg)) > WIDE[0] / 2
