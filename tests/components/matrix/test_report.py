import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from components.matrix.cells import CPS, SUPERVISED, Cell, Score
from components.matrix.published_results import Published
from components.matrix.report import MatrixResult, gains_table, page, summary, table, write_files
from components.metrics.bootstrap import Draws


@pytest.fixture
def result() -> MatrixResult:
    values = {"cps": (0.61, 0.63), "supervised": (0.58, 0.60)}
    scores = [
        Score(Cell(ratio, seed, method), f"run-{ratio}-{seed}-{method}", labeled, values[method][seed - 1], 0.64, 400)
        for ratio, labeled in (("1/16", 23), ("1/8", 46))
        for seed in (1, 2)
        for method in (CPS, SUPERVISED)
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
    assert json.loads(summary(alone))["gains"] == []


def test_files_are_written_and_the_chart_is_well_formed(result: MatrixResult, tmp_path: Path) -> None:
    paths = write_files(result, tmp_path / "new" / "folder")
    assert sorted(path.name for path in paths.values()) == [
        "matrix-gains.csv",
        "matrix.csv",
        "matrix.html",
        "matrix.svg",
    ]
    assert ElementTree.parse(paths["svg"]).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_summary_is_for_programs(result: MatrixResult) -> None:
    said = json.loads(summary(result))
    assert said["gains"][1]["labeled_ratio"] == "1/8"
    assert said["gains"][1]["gain"] == pytest.approx(0.03)
    assert len(said["points"]) == 4
    assert len(said["runs"]) == 8


@pytest.fixture
def three(result: MatrixResult) -> MatrixResult:
    """The same with a recipe, and with draws of the images."""
    recipes = [
        replace(item, cell=replace(item.cell, method="photos"), mean_iou=item.mean_iou + 0.05, steps=900)
        for item in result.scores
        if item.cell.method == CPS
    ]
    noise = np.random.default_rng(0).normal(0, 0.001, 2000)
    scores = [replace(item, draws=Draws(item.mean_iou + noise, "val")) for item in (*result.scores, *recipes)]
    return replace(result, scores=tuple(scores))


def test_a_page_of_several_methods_names_them(three: MatrixResult) -> None:
    html = page(three)
    assert "Which method helped?" in html
    assert "<em>Clear gain over the supervised baseline:</em>" in html
    assert "with CPS at 1/16 and 1/8; photos at 1/16 and 1/8 of the labels." in html
    assert html.count("<strong>photos</strong>") == 2
    assert "over images" in html
    assert "Holm’s correction for 4 comparisons" in html
    assert "photos with 1/16 and 1/8: 900 steps, but the supervised baseline 400" in html
    assert html.count('<svg class="key"') == 4


def test_gains_are_a_table_too(three: MatrixResult, result: MatrixResult, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(gains_table(three.gains))))
    assert [(row["labeled_ratio"], row["method"], row["call"]) for row in rows] == [
        ("1/16", "cps", "clear gain"),
        ("1/8", "cps", "clear gain"),
        ("1/16", "photos", "clear gain"),
        ("1/8", "photos", "clear gain"),
    ]
    assert (rows[0]["gain"], rows[0]["seeds"], rows[0]["reference"]) == ("0.03", "2", "supervised")
    assert float(rows[0]["images_low"]) == pytest.approx(0.03)
    assert gains_table(result.gains).splitlines()[1].split(",")[8:10] == ["", ""], "runs without scores"
    said = json.loads(summary(three))["gains"][3]
    assert (said["method"], said["gain"], said["notes"]) == (
        "photos",
        pytest.approx(0.08),
        ["900 steps, but the supervised baseline 400"],
    )
    write_files(three, tmp_path)
    write_files(replace(three, scores=three.scores[:1]), tmp_path)
    assert not (tmp_path / "matrix-gains.csv").exists(), "it would be of another matrix"


def test_one_seed_is_no_conclusion(three: MatrixResult) -> None:
    html = page(replace(three, scores=tuple(item for item in three.scores if item.cell.seed == 1)))
    assert "<em>One seed:</em> no conclusion." in html
    assert html.count("one seed: no conclusion") == 4
