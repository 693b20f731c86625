import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from components.matrix.cells import METHODS, Cell, Score
from components.matrix.published_results import Published
from components.matrix.report import MatrixResult, page, summary, table, write_files


@pytest.fixture
def result() -> MatrixResult:
    values = {"cps": (0.61, 0.63), "supervised": (0.58, 0.60)}
    scores = [
        Score(Cell(ratio, seed, method), f"run-{ratio}-{seed}-{method}", labeled, values[method][seed - 1], 0.64, 400)
        for ratio, labeled in (("1/16", 23), ("1/8", 46))
        for seed in (1, 2)
        for method in METHODS
    ]
    reference = Published("theirs", "their paper <b>", {"1/8": 0.6})
    return MatrixResult(
        "streets", "camvid-mobilenetv2", 101, "cps matrix --baseline", tuple(scores), (reference,), ("Note.",)
    )


def test_the_table_has_a_line_for_each_run(result: MatrixResult) -> None:
    rows = list(csv.DictReader(io.StringIO(table(result.scores))))
    assert len(rows) == 8
    assert rows[0] == {
        "labeled_ratio": "1/16",
        "seed": "1",
        "method": "cps",
        "labelled_images": "23",
        "steps": "400",
        "mIoU": "0.6100",
        "best_mIoU": "0.6400",
        "run_key": "run-1/16-1-cps",
    }


def test_the_page_has_the_verdicts_and_needs_no_network(result: MatrixResult) -> None:
    html = page(result)
    assert html.count("CPS gained 3.0 ± 0.0 points") >= 4
    assert "their paper &lt;b&gt;" in html
    assert "Note." in html
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert "<em>CPS helps:</em> with 1/16 and 1/8 of the labels." in html
    assert "+3.0 to +3.0" in html
    assert "The vertical axis begins at 54&nbsp;%." in html
    assert html.count('<svg class="chart"') == html.count('aria-label="Label efficiency on streets. CPS with 23') == 2
    assert html.count('<svg class="key"') == 3


def test_without_baselines_there_is_no_verdict(result: MatrixResult) -> None:
    alone = MatrixResult("streets", "demo", 3, "cps matrix", tuple(s for s in result.scores if s.cell.method == "cps"))
    html = page(alone)
    assert "Did Cross Pseudo Supervision help?" not in html
    assert "<em>No comparison:</em>" in html
    assert summary(alone)["gains"] == []


def test_files_are_written_and_the_chart_is_well_formed(result: MatrixResult, tmp_path: Path) -> None:
    paths = write_files(result, tmp_path / "new" / "folder")
    assert sorted(paths) == ["csv", "html", "svg"]
    assert ElementTree.parse(paths["svg"]).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_summary_is_for_programs(result: MatrixResult) -> None:
    said = summary(result)
    assert said["gains"][1]["labeled_ratio"] == "1/8"
    assert said["gains"][1]["gain"] == pytest.approx(0.03)
    assert len(said["points"]) == 4
    assert len(said["runs"]) == 8
