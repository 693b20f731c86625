from dataclasses import replace

import numpy as np
import pytest

from components.matrix.cells import (
    CPS,
    SUPERVISED,
    VARIATIONS,
    Cell,
    Score,
    Variation,
    cell_request,
    cells,
    reference_of,
)
from components.matrix.gains import Gain, OverImages, gains, holm, points
from components.matrix.published_results import published
from components.metrics.bootstrap import Draws
from components.recipes import load_recipe
from components.runs.request import RunRequest
from components.training.schedule import plan


def score(ratio: str, seed: int, method: str, value: float, labeled: int = 10) -> Score:
    return Score(Cell(ratio, seed, method), f"run-{ratio}-{seed}-{method}", labeled, value, value + 0.01, 400)


def test_points_are_means_and_deviations_over_seeds() -> None:
    found = points([score("1/8", 2, "cps", 0.62), score("1/8", 1, "cps", 0.60), score("1/16", 1, "cps", 0.5, 5)])
    assert [(point.labeled_ratio, point.labeled, point.values) for point in found] == [
        ("1/16", 5, (0.5,)),
        ("1/8", 10, (0.60, 0.62)),
    ]
    assert found[1].mean == pytest.approx(0.61)
    assert found[1].spread == pytest.approx(0.0141421, rel=1e-4)
    assert found[0].spread is None


def test_different_numbers_of_labels_are_averaged() -> None:
    """Splits by group have them."""
    scores = [
        score("1/16", seed, method, 0.5, labeled)
        for seed, labeled in ((1, 30), (2, 34), (3, 33))
        for method in ("cps", "supervised")
    ]
    assert [point.labeled for point in points(scores)] == [32, 32]
    assert [gain.labeled for gain in gains(scores)] == [32]


def test_a_gain_is_paired_by_seed() -> None:
    """Seeds differ far more than methods do; pairing cancels that."""
    scores = [score("1/8", seed, "supervised", base) for seed, base in ((1, 0.3), (2, 0.5), (3, 0.7))]
    scores += [score("1/8", seed, "cps", base) for seed, base in ((1, 0.33), (2, 0.53), (3, 0.731))]
    (gain,) = gains(scores)
    assert gain.differences == pytest.approx((0.03, 0.03, 0.031))
    # t(0.975, 2) = 4.302653; standard deviation 0.00057735, over the root of 3 seeds.
    assert gain.half_width == pytest.approx(4.302653 * 0.00057735 / 3**0.5, rel=1e-4)
    assert gain.verdict == "CPS gained 3.0 ± 0.1 points"


def test_a_seed_without_its_baseline_counts_for_no_gain() -> None:
    scores = [score("1/8", 1, "cps", 0.6), score("1/8", 2, "cps", 0.9), score("1/8", 1, "supervised", 0.5)]
    (gain,) = gains(scores)
    assert gain.differences == pytest.approx((0.1,))
    assert gains(scores[:2]) == []


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((0.02,), "CPS gained 2.0 points with one seed, too few for an interval"),
        ((-0.02, -0.0201), "CPS lost 2.0 ± 0.1 points"),
        ((0.05, -0.01), "no clear difference: CPS gained 2.0 ± 38.1 points"),
    ],
)
def test_a_verdict_claims_no_more_than_the_seeds_support(differences: tuple[float, ...], expected: str) -> None:
    assert Gain("1/8", 10, differences).verdict == expected


def test_cells_go_seed_by_seed_with_their_baselines() -> None:
    assert cells(["1/8", "1/4"], [1, 2], {CPS: Variation()}) == [
        Cell("1/8", 1, "cps"),
        Cell("1/4", 1, "cps"),
        Cell("1/8", 2, "cps"),
        Cell("1/4", 2, "cps"),
    ]
    methods = {SUPERVISED: VARIATIONS[SUPERVISED], "photos": Variation("photos")}
    found = cells(["1/8"], [1], methods)
    assert found == [Cell("1/8", 1, "supervised"), Cell("1/8", 1, "photos")]
    assert [cell.variation for cell in found] == list(methods.values())


def test_published_results_appear_only_where_they_are_comparable() -> None:
    recipe = load_recipe("cityscapes-deeplabv3p-resnet50")
    named = {reference.name: reference.by_ratio for reference in published(recipe, "Cityscapes", 19)}
    assert named["CPS, PaddleSeg"] == {"1/2": 0.7839}
    assert published(recipe, "camvid", 11) == ()
    assert published(recipe, "cityscapes", 8) == ()
    assert published(load_recipe("demo"), "cityscapes", 19) == ()


def test_the_baseline_is_the_same_run_with_weight_0() -> None:
    """The same augmentation and number of steps, so that the gain comes from the unlabelled images alone."""
    request = RunRequest(recipe="photos", overrides={"training.epochs": 7})
    own, baseline = (cell_request(cell, request) for cell in cells(["1/8"], [3], VARIATIONS))
    assert (own.seed, own.labeled_ratio, baseline.seed, baseline.labeled_ratio) == (3, "1/8", 3, "1/8")
    recipe, without = own.resolve(), baseline.resolve()
    assert without.cps.weight == 0 < recipe.cps.weight
    assert without.model_copy(update={"cps": recipe.cps}) == recipe
    assert without.cps.model_copy(update={"weight": recipe.cps.weight}) == recipe.cps
    lengths = [plan(item, labeled=20, unlabeled=140, ratio="1/8") for item in (recipe, without)]
    assert lengths[0] == lengths[1]


def test_a_recipe_in_the_list_replaces_that_of_the_request() -> None:
    request = RunRequest(recipe="demo", overrides={"training.epochs": 7})
    photos = cell_request(Cell("1/8", 1, "photos", Variation("photos")), request)
    assert (photos.recipe, photos.overrides) == ("photos", {"training.epochs": 7})
    assert reference_of(["photos", CPS, SUPERVISED]) == SUPERVISED
    assert reference_of(["photos", CPS]) == "photos"


def test_a_method_is_never_trained_as_another_one() -> None:
    request = RunRequest(recipe="demo")
    assert cell_request(Cell("1/8", 1, SUPERVISED), request).resolve().cps.weight == 0
    with pytest.raises(KeyError):
        cell_request(Cell("1/8", 1, "photos"), request)


def test_settings_in_the_list_are_added_to_those_of_the_request() -> None:
    request = RunRequest(recipe="demo", overrides={"training.epochs": 7, "cps.weight": 0.5})
    own = Variation(overrides={"cps.teacher": "average", "cps.weight": 2.0})
    found = cell_request(Cell("1/8", 1, "teacher", own), request)
    assert (found.recipe, found.resolve().cps.weight, found.resolve().cps.teacher) == ("demo", 2.0, "average")
    assert found.resolve().training.epochs == 7


def test_holms_correction() -> None:
    """Values from the definition: the smallest is multiplied by 4, the next by 3, and none is below one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_is_clear_alone_may_not_be_among_many() -> None:
    """The same gain, as the only one and beside five ratios that show nothing."""
    own = [score("1/8", seed, "cps", 0.5 + value) for seed, value in ((1, 0.02), (2, 0.03), (3, 0.025))]
    base = [score("1/8", seed, "supervised", 0.5) for seed in (1, 2, 3)]
    others = [
        score(f"1/{ratio}", seed, method, 0.5 + (method == "cps") * value)
        for ratio in (2, 3, 4, 5, 6)
        for seed, value in ((1, 0.02), (2, -0.02), (3, 0.001))
        for method in ("cps", "supervised")
    ]
    (alone,) = gains([*own, *base])
    assert alone.call == "clear gain"
    assert alone.p_value == alone.corrected_p
    among = gains([*own, *base, *others])[0]
    assert among.labeled_ratio == "1/8"
    assert among.p_value == alone.p_value
    assert among.corrected_p == pytest.approx(6 * (alone.p_value or 0))
    assert among.call == "not clear"
    assert among.verdict.startswith("no clear difference: CPS gained 2.5 ± 1.2 points, but not after the correction")


def with_draws(scores: list[Score], spread: float, drawn_from: str = "val") -> list[Score]:
    """Scores whose draws vary together, as images are hard for all, and of which CPS varies by `spread` more."""
    random = np.random.default_rng(0)
    hard, own = random.normal(0, 0.05, 2000), random.normal(0, spread, 2000)
    return [
        replace(item, draws=Draws(item.mean_iou + hard + own * (item.cell.method != "supervised"), drawn_from))
        for item in scores
    ]


def test_the_interval_over_images_is_paired_over_all_seeds() -> None:
    scores = [score("1/8", seed, "supervised", base) for seed, base in ((1, 0.3), (2, 0.5), (3, 0.7))]
    scores += [score("1/8", seed, "cps", base) for seed, base in ((1, 0.33), (2, 0.53), (3, 0.731))]
    (gain,) = gains(with_draws(scores, 0.005))
    assert gain.images is not None
    assert gain.images.low == pytest.approx(0.0303 - 1.96 * 0.005, abs=0.001)
    assert gain.images.high == pytest.approx(0.0303 + 1.96 * 0.005, abs=0.001)
    assert gain.images.p_value == pytest.approx(2 / 2001)
    assert gain.call == "clear gain"
    (gain,) = gains(with_draws(scores, 0.03))
    assert gain.half_width is not None
    assert gain.half_width < gain.mean, "clear over seeds"
    assert gain.call == "not clear"
    assert gain.verdict.startswith("no clear difference: CPS gained 3.0 ± 0.1 points, but -2.")
    assert gain.verdict.endswith(" on other images")


def test_draws_of_other_images_give_no_interval() -> None:
    scores = [score("1/8", 1, "supervised", 0.3), score("1/8", 1, "cps", 0.4)]
    mixed = [with_draws(scores, 0.01)[0], with_draws(scores, 0.01, "other images")[1]]
    assert [gain.images for gain in (*gains(scores), *gains(mixed))] == [None, None]


def test_methods_are_each_compared_with_the_reference() -> None:
    values = {"supervised": 0.5, "cps": 0.52, "photos": 0.6}
    scores = [score("1/8", seed, method, value) for seed in (1, 2) for method, value in values.items()]
    scores[2] = replace(scores[2], steps=900, split="other")
    found = gains(scores)
    assert [(gain.method, gain.reference, round(gain.mean, 3)) for gain in found] == [
        ("cps", "supervised", 0.02),
        ("photos", "supervised", 0.1),
    ]
    assert found[0].notes == ()
    assert found[1].notes == (
        "not the same labelled images as the supervised baseline",
        "900 steps, but the supervised baseline 400",
    )
    assert [gain.method for gain in gains(scores, "photos")] == ["supervised", "cps"]
    assert Gain("1/8", 4, (0.1, 0.1001), "photos").verdict == "photos gained 10.0 ± 0.1 points"
    assert [point.method for point in points(scores)] == ["cps", "photos", "supervised"]


def test_a_gain_in_which_all_seeds_agree_to_the_last_digit() -> None:
    assert Gain("1/8", 4, (0.25, 0.25)).call == "clear gain"
    assert Gain("1/8", 4, (0.0, 0.0)).call == "not clear"
    assert Gain("1/8", 4, (0.25, 0.25), images=OverImages(-0.1, 0.4, 0.3)).call == "not clear"
