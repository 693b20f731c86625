"""Intervals of the mean IoU: equal to drawing images one by one, and wide where the images disagree."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from components.metrics.bootstrap import DRAWS, SEED, Bootstrap, interval
from components.metrics.confusion import class_counts
from components.metrics.scores import mean_iou


def some_matrices(images: int, classes: int = 3, seed: int = 0) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    matrices = random.integers(0, 50, (images, classes, classes))
    matrices[:, -1, :] *= random.random((images, 1)) < 0.2  # a rare class, which some draws lack
    matrices[:, :, -1] *= matrices[:, -1, -1:] > 0
    return matrices


def test_equals_adding_up_the_drawn_images() -> None:
    matrices = some_matrices(7)
    counts = np.random.default_rng(5).multinomial(7, [1 / 7] * 7, size=300)
    expected = [mean_iou(matrices[np.repeat(np.arange(7), drawn)].sum(axis=0)) for drawn in counts]
    np.testing.assert_allclose(Bootstrap(7, draws=300, seed=5).mean_iou(class_counts(matrices)), expected, rtol=1e-12)


def test_equals_one_product_with_all_matrices_to_the_last_digit() -> None:
    """Results must not depend on how the draws are divided into chunks, because stored results hold them."""
    matrices = some_matrices(300, classes=5)
    counts = np.random.default_rng(SEED).multinomial(300, np.full(300, 1 / 300), size=DRAWS).astype(np.float64)
    hit = np.diagonal(matrices, axis1=1, axis2=2)
    sums = counts @ np.concatenate([hit, matrices.sum(1) + matrices.sum(2) - hit], axis=1).astype(np.float64)
    ious = np.divide(sums[:, :5], sums[:, 5:], out=np.full((DRAWS, 5), np.nan), where=sums[:, 5:] > 0)
    expected = np.nansum(ious, axis=1) / np.isfinite(ious).sum(axis=1)
    np.testing.assert_array_equal(Bootstrap(300).mean_iou(class_counts(matrices)), expected)


def test_the_interval_is_the_same_every_time_and_holds_the_figure() -> None:
    matrices = some_matrices(60)
    first, again = (interval(Bootstrap(60).mean_iou(class_counts(matrices))) for _ in range(2))
    assert first == again
    assert first.low < mean_iou(matrices.sum(axis=0)) < first.high


def test_more_images_make_it_narrower() -> None:
    few, many = (some_matrices(images, classes=2, seed=1) for images in (20, 320))
    widths = [
        np.diff(interval(Bootstrap(len(matrices)).mean_iou(class_counts(matrices))))[0] for matrices in (few, many)
    ]
    # The width goes with one over the root of the number: sixteen times the images, a quarter of it.
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.5)


def test_a_paired_difference_is_narrower_than_the_two_intervals() -> None:
    """Images differ much in how hard they are, and one network is a little better on each of them."""
    shares = np.random.default_rng(2).uniform(0.2, 0.9, 40)
    pairs = []
    for gain in (0.0, 0.02):
        right = np.round(1000 * (shares + gain)).astype(int)
        pairs.append(np.array([[[hit, 1000 - hit], [1000 - hit, hit]] for hit in right]))
    draws = Bootstrap(40)
    worse, better = (draws.mean_iou(class_counts(matrices)) for matrices in pairs)
    assert interval(worse).high > interval(better).low
    lead = interval(better - worse)
    assert 0 < lead.low < lead.high < 0.03


def test_coverage() -> None:
    """Of intervals around samples of a known population, about 95 in 100 hold its figure."""
    population = some_matrices(4000, classes=2, seed=3)
    truth = mean_iou(population.sum(axis=0))
    random = np.random.default_rng(4)
    draws = Bootstrap(50, draws=400)
    found = [interval(draws.mean_iou(class_counts(population[random.integers(0, 4000, 50)]))) for _ in range(300)]
    assert 0.90 <= np.mean([low <= truth <= high for low, high in found]) <= 0.98


def test_no_interval_without_labels_or_from_one_image() -> None:
    for matrices in (np.zeros((4, 2, 2), np.int64), some_matrices(1)):
        draws = Bootstrap(len(matrices)).mean_iou(class_counts(matrices))
        assert all(math.isnan(value) for value in interval(draws))


def test_blocks_are_drawn_as_one_image_with_all_their_pixels() -> None:
    matrices = some_matrices(12)
    blocks = np.array([0, 1, 0, 2, 2, 2, 3, 4, 5, 5, 6, 0])
    together = np.array([matrices[blocks == number].sum(axis=0) for number in range(7)])
    found = Bootstrap(12, blocks=blocks).mean_iou(class_counts(matrices))
    np.testing.assert_array_equal(found, Bootstrap(7).mean_iou(class_counts(together)))


def test_blocks_of_one_image_change_no_digit() -> None:
    counts = class_counts(some_matrices(90, classes=4))
    np.testing.assert_array_equal(Bootstrap(90, blocks=np.arange(90)).mean_iou(counts), Bootstrap(90).mean_iou(counts))


def test_a_single_block_has_no_interval() -> None:
    draws = Bootstrap(5, blocks=np.zeros(5, np.intp)).mean_iou(class_counts(some_matrices(5)))
    assert all(math.isnan(value) for value in interval(draws))


def test_coverage_of_clips_of_near_copies() -> None:
    """Twenty clips of ten equal frames: only intervals over blocks hold the population's figure."""
    population = some_matrices(4000, classes=2, seed=3)
    truth = mean_iou(population.sum(axis=0))
    random, blocks = np.random.default_rng(4), np.repeat(np.arange(20), 10)
    by_image, by_block = Bootstrap(200, draws=400), Bootstrap(200, draws=400, blocks=blocks)
    held = {"images": 0, "blocks": 0}
    for _ in range(200):
        clips = class_counts(np.repeat(population[random.integers(0, 4000, 20)], 10, axis=0))
        for name, draws in (("images", by_image), ("blocks", by_block)):
            low, high = interval(draws.mean_iou(clips))
            held[name] += low <= truth <= high
    assert held["images"] < 100
    assert 170 <= held["blocks"] <= 196
