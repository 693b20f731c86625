import pytest

from components.matrix.cells import Cell, Score, cells
from components.matrix.gains import Gain, gains, points
from components.matrix.published_results import published
from components.recipes import load_recipe


def score(ratio: str, seed: int, method: str, value: float, labeled: int = 10) -> Score:
    return Score(Cell(ratio, seed, method), f"run-{ratio}-{seed}-{method}", labeled, value, value + 0.01, 400)  # type: ignore[arg-type]


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
    assert cells(["1/8", "1/4"], [1, 2], baseline=False) == [
        Cell("1/8", 1, "cps"),
        Cell("1/4", 1, "cps"),
        Cell("1/8", 2, "cps"),
        Cell("1/4", 2, "cps"),
    ]
    assert cells(["1/8"], [1], baseline=True) == [Cell("1/8", 1, "cps"), Cell("1/8", 1, "supervised")]


def test_published_results_appear_only_where_they_are_comparable() -> None:
    recipe = load_recipe("cityscapes-deeplabv3p-resnet50")
    named = {reference.name: reference.by_ratio for reference in published(recipe, "Cityscapes", 19)}
    assert named["CPS, PaddleSeg"] == {"1/2": 0.7839}
    assert published(recipe, "camvid", 11) == ()
    assert published(recipe, "cityscapes", 8) == ()
    assert published(load_recipe("demo"), "cityscapes", 19) == ()
