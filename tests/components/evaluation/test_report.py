"""The report is complete, self-contained and well-formed, and its figures are correct."""

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from components.contract import Class
from components.evaluation.publish import metrics, summary
from components.evaluation.report.charts import miou_by_epoch, small_chart
from components.evaluation.report.examples import choose, draw, highlights, most_missed
from components.evaluation.report.findings import judge
from components.evaluation.report.page import Link, Parts, heat_map, render_report
from components.evaluation.report.progress import draw_progress, image_figures
from components.evaluation.result import build_result
from components.evaluation.scores import Counts, Protocol, Scores
from components.evaluation.verdict import decide
from components.metrics.bootstrap import Interval
from components.metrics.confusion import Matrix, confusion_matrix
from components.pages.shown import Painter
from components.runs.record import DatasetRef, RunRecord
from components.runs.result import (
    VARIANTS,
    BaselineGain,
    ClassFigures,
    ConfusionMatrix,
    CurvePoint,
    PseudoLabelEpoch,
    PseudoLabelRecord,
    StoredObject,
    TrainingCurve,
    useless_text,
)
from tests.run_objects import make_result

CLASSES = (
    Class(name="road <b>", color=(128, 64, 128)),
    Class(name="sky & clouds", color=(70, 130, 180)),
    Class(name="tram", color=(0, 80, 100)),
)
PAINTER = Painter(CLASSES)
NOTHING = Parts(PAINTER)
WEIGHTS = StoredObject(uri="s3://cps/weights/x/best.safetensors", sha256="a" * 64, size=1)
REPORT = StoredObject(uri="s3://cps/runs/x/report.html")
VOID_TAGS = {"meta", "img", "input", "br", "line", "circle", "rect", "path", "polyline", "polygon"}
RECORD = RunRecord(
    run_key="demo-1-8-s0-0123456789ab",
    recipe="demo",
    settings={},
    overrides={},
    labeled_ratio="1/8",
    seed=0,
    dataset=DatasetRef(digest="d" * 64, name="streets"),
    split="f" * 64,
    method_version=1,
    versions={"python": "3.11"},
    created="2025-01-01T00:00:00+00:00",
)


@dataclass
class Page(HTMLParser):
    """Check that tags are closed in order, and collect the addresses in the page."""

    open: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    without_alt: int = 0
    tags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset") and value]
        self.without_alt += tag == "img" and not values.get("alt")
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def make_scores(epochs: list[int], images: int = 4) -> list[Scores]:
    """Return scores in which class 2, tram, is neither in the truth nor predicted."""
    protocol = Protocol("f" * 64, tuple(item.name for item in CLASSES), 255, (16, 24), (16, 24), "paddle")
    random = np.random.default_rng(0)
    found = []
    for epoch in epochs:
        matrices = {
            variant: np.stack(
                [confusion_matrix(random.integers(0, 2, 99), random.integers(0, 2, 99), 3) for _ in range(images)]
            )
            for variant in VARIANTS
        }
        names = tuple(f"images/{number}.jpg" for number in range(images))
        bands = np.tile([[6, 9, 8], [2, 4, 6], [0, 0, 0]], (images, 1, 1))
        counts = {variant: Counts.of_images(matrices[variant], bands) for variant in VARIANTS}
        found.append(Scores(epoch, epoch * 10, "c" * 64, protocol, names, counts))
    return found


def best_of(scores: list[Scores]) -> Scores:
    epoch = decide(scores).best.epoch
    return next(item for item in scores if item.epoch == epoch)


def make_report(
    epochs: list[int],
    images: int = 4,
    test_images: int = 0,
    audit: PseudoLabelRecord | None = None,
    curve: TrainingCurve | None = None,
) -> str:
    scores = make_scores(epochs, images)
    verdict = decide(scores)
    test = make_scores([verdict.best.epoch], test_images)[0] if test_images else None
    result = build_result(RECORD, verdict, best_of(scores), test, weights=WEIGHTS, report=REPORT)
    random = np.random.default_rng(1)
    label = random.integers(0, 2, (16, 24)).astype(np.uint8)
    label[0] = 255
    image = random.integers(0, 256, (16, 24, 3)).astype(np.uint8)
    matrix = confusion_matrix(label, np.zeros_like(label), 3)
    example = draw("folder/a.jpg", matrix, image, label, np.zeros_like(label), painter=PAINTER)
    masks = {item.epoch: {item.images[0]: np.zeros_like(label)} for item in scores}
    figures = {item.epoch: image_figures(item, verdict.best.variant, item.images[:1]) for item in scores}
    parts = Parts(
        PAINTER,
        examples=[example],
        facts=[("window", "crop 24 × 16"), ("weights", result.weights.uri)],
        links=[
            Link("Weights", "1.9 MB", command="cps weights pull x"),
            Link("MLflow", "runs", "https://ml.example.com"),
        ],
        progress=draw_progress(figures, masks, PAINTER, lambda _: (image, label)),
        curve=curve,
        pseudo_labels=audit,
    )
    return render_report(result, verdict, parts)


@pytest.mark.parametrize("epochs", [[5], [1, 2], list(range(240))])
def test_the_page_is_whole_and_needs_no_network(epochs: list[int]) -> None:
    html = make_report(epochs)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.without_alt == 0
    assert page.addresses
    loaded = [address for address in page.addresses if not address.startswith(("#", "https://ml.example.com"))]
    assert all(address.startswith("data:image/") for address in loaded)
    assert not re.search(r"https?://|@import|url\(", html.replace("https://ml.example.com", ""))
    assert page.tags.count("svg") == 1 + 2 + len(VARIANTS) + 1, "a mark, a chart in two sizes, and its keys"
    assert page.tags.count("polygon") == 2
    assert "NaN" not in html
    assert "nan" not in re.sub(r"data:[^\"]+", "", html)
    assert len(html) < 3_000_000


def test_the_page_names_excluded_classes_and_escapes_names() -> None:
    html = make_report([1, 2, 3])
    assert "Excluded from the mean" in html
    assert re.search(r"it occurs neither in the validation labels nor in the predictions: tram", html)
    assert "absent: excluded from the mean" in html
    assert "road &lt;b&gt;" in html
    assert "road <b>" not in html
    assert "sky &amp; clouds" in html
    assert "were not used for the selection" in html


def test_the_page_says_first_that_a_result_is_useless() -> None:
    constant = Counts.of_images(
        np.tile([[60, 0, 0], [40, 0, 0], [0, 0, 0]], (4, 1, 1)), np.tile([[6, 9, 8], [2, 4, 6], [0, 0, 0]], (4, 1, 1))
    )
    scores = [replace(make_scores([1])[0], counts=dict.fromkeys(VARIANTS, constant))]
    verdict = decide(scores)
    reasons = ("3 labelled images are few for <b> classes",)
    result = build_result(RECORD, verdict, best_of(scores), reasons=reasons, weights=WEIGHTS, report=REPORT)
    assert result.likely_reasons == reasons
    html = render_report(result, verdict, NOTHING)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert useless_text(result).replace("<b>", "&lt;b&gt;") in html
    assert "<p>3 labelled images are few for &lt;b&gt; classes.</p>" in html
    assert judge(result).level == "bad"
    better = result.model_copy(update={"is_better_than_constant": True, "likely_reasons": ()})
    assert "do not use" not in render_report(better, verdict, NOTHING)


@pytest.mark.parametrize(
    ("low", "high", "level", "sentence"),
    [
        (0.01, 0.05, "good", "Good: .* 3.0 points above its supervised baseline"),
        (-0.01, 0.07, "doubtful", "Doubtful: .* no clear gain over its supervised baseline"),
        (-0.05, -0.01, "doubtful", "Worse than its baseline: .* 3.0 points below the supervised baseline"),
    ],
)
def test_with_a_baseline_the_verdict_is_on_the_gain(low: float, high: float, level: str, sentence: str) -> None:
    difference = 0.03 if high > 0 else -0.03
    gain = BaselineGain(
        run_key="b",
        mIoU=0.4,
        mIoU_low=0.3,
        mIoU_high=0.5,
        difference=difference,
        difference_low=low,
        difference_high=high,
    )
    result = make_result("a", images=40, is_better_than_constant=True, baseline=gain)
    found = judge(result)
    assert found.level == level
    assert re.search(sentence, f"{found.word}: {found.sentence}")
    assert "The supervised baseline of the same split, recipe and steps reaches 40.0" in found.why[1]
    few = result.model_copy(update={"images": 4})
    assert "4 validation images cannot show" in judge(few).sentence, "what makes every figure doubtful comes first"


def test_blocks_of_frames_are_said_in_words() -> None:
    scores = [replace(item, near_copies=("images/1.jpg", "images/2.jpg")) for item in make_scores([1, 2], 9)]
    chosen = decide(scores)
    result = build_result(RECORD, chosen, best_of(scores), weights=WEIGHTS, report=REPORT)
    assert "over 9 validation images is" in summary(result)
    frames = [replace(item, near_copies=item.images[1:]) for item in scores]
    chosen = decide(frames)
    result = build_result(RECORD, chosen, best_of(frames), weights=WEIGHTS, report=REPORT)
    assert result.interval.blocks == 3
    assert "The 95 % interval over 3 blocks of consecutive frames is" in summary(result)
    assert "Frames of a video are drawn in blocks" in render_report(result, chosen, NOTHING)
    assert result.interval.model_copy(update={"frames": 7}).resampled(9) == (
        "1 block of consecutive frames and 2 single images"
    )


def test_the_page_shows_the_intervals() -> None:
    html = re.sub(r"\s+", " ", make_report([1, 2, 3]))
    assert re.search(r"95&nbsp;% interval \d+\.\d.% to \d+\.\d.%", html)
    assert "the paired difference" in html or "The last checkpoint is the best one" in html or "Still rising" in html
    # A single image does not show how images vary.
    alone = re.sub(r"\s+", " ", make_report([1, 2, 3], images=1))
    assert "the paired difference" not in alone
    assert "<polygon" not in alone
    assert "– to –" in alone


@pytest.mark.parametrize(("clear", "says"), [(True, "points below, clear<"), (False, "points below, not clear<")])
def test_the_page_says_whether_a_lead_is_clear(clear: bool, says: str) -> None:
    scores = make_scores([1, 2, 3])
    verdict = decide(scores)
    leads = [replace(lead, interval=Interval(0.01 if clear else -0.01, 0.05)) for lead in verdict.variants]
    last = replace(leads[0], over=replace(verdict.last, epoch=3))
    verdict = replace(verdict, variants=tuple(leads), lead=last, best=replace(verdict.best, epoch=1))
    result = build_result(RECORD, verdict, best_of(scores), weights=WEIGHTS, report=REPORT)
    html = render_report(result, verdict, NOTHING)
    assert html.count(says) == 2
    assert ("the last one might have come first" in html) != clear


def test_the_page_shows_the_quality_of_the_pseudo_labels() -> None:
    found = PseudoLabelEpoch(
        epoch=1,
        accuracy=0.5,
        agreement=0.75,
        labeled_share=1.0,
        precision=(0.5, 0.25, None),
        recall=(0.125, 1.0, None),
    )
    last = found.model_copy(update={"epoch": 2, "accuracy": 0.625, "labeled_share": 0.5})
    record = PseudoLabelRecord(classes=tuple(item.name for item in CLASSES), images=12, epochs=(found, last))
    html = re.sub(r"\s+", " ", make_report([1, 2], audit=record))
    page = Page()
    page.feed(html)
    assert page.open == []
    assert "12 of the unlabelled images do have labels" in html
    assert re.search(r"62.5.% of the pseudo-labelled pixels were correct", html)
    assert re.search(r"50.0.% of the pixels received a pseudo label", html)
    assert re.search(r'tram</td><td class="number">–</td><td class="number">–</td>', html)
    assert html.count('aria-label="Pseudo labels by epoch: correct from 50 to 62.5;') == 1
    assert "Quality of the pseudo labels" in html
    assert "Quality of the pseudo labels" not in make_report([1, 2])
    assert "Quality of the pseudo labels" not in make_report([1, 2], audit=record.model_copy(update={"epochs": ()}))


def test_the_test_list_stands_beside_the_validation_figure() -> None:
    html = make_report([1, 2], test_images=6)
    assert "test list, scored once" in html
    assert "6 images were not used for the selection and were scored once" in html
    assert "test list" not in make_report([1, 2])


def test_the_result_holds_the_figures() -> None:
    scores = make_scores([1, 2])
    verdict = decide(scores)
    result = build_result(RECORD, verdict, best_of(scores), weights=WEIGHTS, report=REPORT)
    tram = result.best.per_class[2]
    assert tram == ClassFigures(name="tram", iou=None, accuracy=None, dice=None, boundary_iou=None, share=0.0)
    assert result.best.boundary_IoU == pytest.approx((6 / 11 + 2 / 8) / 2)
    dices = [item.dice or 0.0 for item in result.best.per_class[:2]]
    assert result.best.mean_Dice == pytest.approx(sum(dices) / 2)
    assert result.best.mIoU_low < result.best.mIoU < result.best.mIoU_high
    assert result.test is None
    ious = [item.iou or 0.0 for item in result.best.per_class[:2]]
    assert result.best.mIoU == pytest.approx(sum(ious) / 2)
    assert result.last.variant == result.best.variant
    row = result.checkpoints[[1, 2].index(result.best.epoch)]
    assert list(row.IoU) == [item.iou for item in result.best.per_class]
    assert row.mIoU_low == result.best.mIoU_low
    shown = metrics(result)
    assert shown["mIoU"] == round(100 * result.best.mIoU, 2)
    assert shown["mIoU_low"] < shown["mIoU"] < shown["mIoU_high"]
    assert shown["kappa"] == round(result.best.kappa or 0.0, 4)
    assert "test_mIoU" not in shown
    assert "| tram | – | – |" in summary(result)
    verdict_line, *_ = summary(result).splitlines()
    assert verdict_line.startswith("## Doubtful: ")
    assert "**Why.** The 95 % interval over 4 validation images is" in summary(result)
    assert "**Do next.** Label more validation images." in summary(result)
    assert shown["labeled_ratio"] == 12.5

    test = make_scores([9], images=7)[0]
    result = build_result(RECORD, verdict, best_of(scores), test, weights=WEIGHTS, report=REPORT)
    variant = verdict.best.variant
    assert (result.test.images, result.test.mIoU) == (7, test.mean_iou(variant))
    assert metrics(result)["test_mIoU"] == round(100 * test.mean_iou(variant), 2)
    assert "7 images were not used for the selection" in result.note


def test_the_summary_links_to_where_people_look(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = make_scores([1])
    weights, report = StoredObject(uri="s3://cps/w.safetensors"), StoredObject(uri="s3://cps/r.html")
    result = build_result(RECORD, decide(scores), best_of(scores), weights=weights, report=report)
    plain = summary(result).splitlines()
    assert "Report: `s3://cps/r.html`  " in plain
    assert not [line for line in plain if "](" in line]
    monkeypatch.setenv("CPS_PUBLIC_S3_URL", "https://s3.example.com")
    linked = summary(result, "https://mlflow.example.com/#/experiments/1/runs/2").splitlines()
    assert "Report: [`s3://cps/r.html`](https://s3.example.com/cps/r.html)  " in linked
    assert "Weights: [`s3://cps/w.safetensors`](https://s3.example.com/cps/w.safetensors)  " in linked
    assert "[Curves and figures in MLflow](https://mlflow.example.com/#/experiments/1/runs/2)  " in linked
    assert any(f"cps weights pull {RECORD.run_key}" in line for line in linked)


def test_the_images_are_the_worst_the_middle_and_the_best() -> None:
    identity, wrong = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 0]]), np.array([[0, 5, 0], [5, 0, 0], [0, 0, 0]])
    half = np.array([[5, 0, 0], [5, 0, 0], [0, 0, 0]])
    matrices = np.stack([half, identity, wrong, np.zeros((3, 3), int)])
    assert choose(ranked(matrices), "left") == [2, 0, 1], "an image without labels has no score"
    many = np.stack([np.array([[number, 9, 0], [0, 1, 0], [0, 0, 0]]) for number in range(20)])
    assert choose(ranked(many), "left", 6) == [0, 1, 9, 10, 18, 19]


def ranked(matrices: Matrix) -> Scores:
    """Return scores with these matrices of images that are named by their numbers."""
    counts = dict.fromkeys(VARIANTS, Counts.of_images(matrices, np.zeros((len(matrices), 3, 3), int)))
    return Scores(1, 1, "", make_scores([1])[0].protocol, tuple(map(str, range(len(matrices)))), counts)


def test_the_first_image_is_the_median_and_none_is_shown_twice() -> None:
    random = np.random.default_rng(0)
    image, label = random.integers(0, 256, (8, 8, 3)).astype(np.uint8), np.zeros((8, 8), np.uint8)
    drawn = [draw("a", np.eye(3, dtype=int), image, label, label, painter=PAINTER)] * 9
    assert highlights(drawn) == [("Median", 4), ("Worst", 0), ("Lower quarter", 2), ("Upper quarter", 6), ("Best", 8)]
    assert highlights(drawn[:2]) == [("Median", 0), ("Upper quarter", 1)]
    assert highlights(drawn[:1]) == [("Median", 0)]
    assert highlights([]) == []


def test_the_costliest_confusion_in_words() -> None:
    said = most_missed(np.array([[90, 10, 0], [0, 100, 0], [0, 0, 0]]), PAINTER.names)
    assert said == "road <b> taken for sky & clouds: 5.0 % of the pixels"
    assert most_missed(np.diag([1, 1, 1]), PAINTER.names) == "every pixel is correct"


def test_a_class_that_is_never_found_makes_a_result_doubtful() -> None:
    def judged(matrix: list[list[int]], images: int = 12) -> tuple[str, str]:
        scores = ranked(np.tile(matrix, (images, 1, 1)))
        result = build_result(RECORD, decide([scores]), scores, weights=WEIGHTS, report=REPORT)
        found = judge(result)
        return found.level, found.sentence

    assert judged([[60, 5, 0], [5, 30, 0], [0, 0, 0]])[0] == "good"
    level, sentence = judged([[60, 0, 0], [0, 30, 0], [5, 5, 0]])
    assert (level, "tram is never found" in sentence) == ("doubtful", True)
    level, sentence = judged([[60, 5, 0], [5, 30, 0], [0, 0, 0]], images=2)
    assert (level, "2 validation images cannot show" in sentence) == ("doubtful", True)


def test_the_page_shows_losses_and_learning_rate_and_progress() -> None:
    points = [
        CurvePoint(step=10 * number, loss_supervised=2 / number, loss_cross=1 / number, learning_rate=0.004 / number)
        for number in range(1, 5)
    ]
    html = make_report([1, 2], curve=TrainingCurve(steps_per_epoch=20, points=tuple(points)))
    assert 'aria-label="Losses by epoch: supervised from 2 to 0.5; cross pseudo supervision from 1 to 0.25"' in html
    assert "Learning rate by epoch" in html
    assert "× 0.001" in html
    assert "Progress you can see" in html
    assert "Progress you can see" not in make_report([1]), "one checkpoint shows no progress"
    supervised = [point.model_copy(update={"loss_cross": 0.0}) for point in points]
    alone = make_report([1, 2], curve=TrainingCurve(steps_per_epoch=20, points=tuple(supervised)))
    assert 'aria-label="Losses by epoch: supervised from 2 to 0.5"' in alone


def test_a_small_chart_without_values_is_left_out() -> None:
    assert small_chart("Losses", "", {"a": [(1.0, float("nan"))]}) is None


def test_many_classes_are_reduced_to_those_with_the_most_wrong_pixels() -> None:
    names = tuple(f"class {number}" for number in range(20))
    matrix = np.diag(np.full(20, 100))
    matrix[3, 17] = 50
    found = ConfusionMatrix(classes=names, matrix=tuple(map(tuple, matrix.tolist())))
    rows = heat_map(found, 16)
    assert len(rows) == 12
    assert {"class 3", "class 17"} <= {row.name for row in rows}
    assert len(heat_map(found)) == 20


def test_heat_map_rows_are_shares_of_the_truth() -> None:
    rows = heat_map(ConfusionMatrix(classes=("a", "b"), matrix=((3, 1), (0, 0))))
    assert [cell.share for cell in rows[0].cells] == [0.75, 0.25]
    assert rows[0].cells[0].own
    assert rows[0].cells[0].strong
    assert [cell.share for cell in rows[1].cells] == [None, None]


@pytest.mark.parametrize("epochs", [[5], [1, 2], list(range(240))])
def test_everything_drawn_is_inside_the_chart(epochs: list[int]) -> None:
    verdict = decide(make_scores(epochs))
    for width in (350, 760):
        svg = str(miou_by_epoch(verdict, width, 300))
        points = [point.split(",") for found in re.findall(r'points="([^"]+)"', svg) for point in found.split()]
        assert all(0 <= float(x) <= width and 0 <= float(y) <= 300 for x, y in points)
        for name, limit in (("x", width), ("cx", width), ("x2", width), ("y", 300), ("cy", 300)):
            for value in re.findall(rf' {name}="([-0-9.]+)"', svg):
                assert 0 <= float(value) <= limit
