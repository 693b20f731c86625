"""A result that a constant prediction could have had is recognised, and its likely reasons are named."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from components.dataset.manifest import Sample
from components.dataset.split import Split
from components.evaluation.doubts import is_better_than_constant, likely_reasons
from components.evaluation.scores import Counts, Protocol, Scores
from components.recipes import load_recipe
from components.runs.result import VARIANTS

CLASSES = ("background", "person", "dog")
PROTOCOL = Protocol("f" * 64, CLASSES, 255, (32, 32), (32, 32), "exact")


def scored(matrices: NDArray[np.int64]) -> Scores:
    names = tuple(map(str, range(len(matrices))))
    counts = Counts.of_images(matrices, np.ones((len(matrices), len(CLASSES), 3), np.int64))
    return Scores(1, 10, "c" * 64, PROTOCOL, names, dict.fromkeys(VARIANTS, counts))


def predictions(images: int, found: float) -> Scores:
    """Images of 800, 150 and 50 pixels of the classes, give or take; of the last two, the share `found` is found."""
    random, matrices = np.random.default_rng(0), []
    for _ in range(images):
        truth = np.array([800, 150, 50]) + random.integers(-40, 40, 3)
        hits = np.round(truth * [1, found, found]).astype(int)
        matrix = np.diag(hits)
        matrix[:, 0] += truth - hits
        matrices.append(matrix)
    return scored(np.array(matrices))


@pytest.mark.parametrize(("found", "is_better"), [(0.0, False), (0.3, True), (1.0, True)])
@pytest.mark.parametrize("images", [1, 2, 20])
def test_what_finds_more_than_one_class_is_better(images: int, found: float, is_better: bool) -> None:
    assert is_better_than_constant(predictions(images, found), "ensemble") is is_better


def test_noise_is_no_better() -> None:
    """Where the gain of some images is the loss of others, the interval of the difference holds zero."""
    right = np.array([[800, 0, 0], [0, 200, 0], [0, 0, 0]])
    wrong = np.array([[300, 500, 0], [200, 0, 0], [0, 0, 0]])
    assert not is_better_than_constant(scored(np.array([right, wrong] * 3)), "left")
    assert is_better_than_constant(scored(np.array([right, right] * 3)), "left")


def split(labeled: int) -> Split:
    samples = tuple(Sample(image=f"{number}.jpg", label=f"{number}.png") for number in range(labeled))
    return Split(
        labeled_ratio="1/1",
        seed=0,
        origin="seeded",
        labeled=samples,
        unlabeled=(),
        val=(),
        test=(),
        fingerprint="f" * 64,
    )


def reasons(found: float = 0.0, labeled: int = 100, steps: int = 400, recipe: str = "photos", **more: Any) -> list[str]:
    missing = more.get("missing", ())
    given = likely_reasons(
        load_recipe(recipe), split(labeled), predictions(4, found), "left", steps=steps, missing=missing
    )
    assert given[-1] == "the labels may be wrong: look at them with `cps dataset check`"
    return list(given[:-1])


def test_reasons_are_found_in_the_recipe_the_split_and_the_predictions() -> None:
    assert reasons(found=1.0) == []
    assert reasons(recipe="demo", found=1.0) == [
        "the networks start from random weights: use --recipe photos, or set network.pretrained"
    ]
    assert reasons(labeled=14, found=1.0) == [
        "14 labelled images are few for 3 classes: use more of them, or merge classes"
    ]
    assert reasons(steps=199, found=1.0) == ["199 training steps are few: raise --epochs"]
    assert reasons(missing=("dog",), found=1.0) == ["no labelled image contains dog: label some, or merge classes"]
    assert reasons() == ["100 % of the pixels are predicted as background"]
