"""CutMix boxes have the area, number and bounds that they should."""

import numpy as np
import pytest

from components.training.batches.augmentation import cutmix_mask


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_one_box_covers_its_share(share):
    shares = [cutmix_mask(np.random.default_rng(seed), (200, 300), 1, (share, share)).mean() for seed in range(50)]
    np.testing.assert_allclose(shares, share, atol=0.01)


def test_one_box_is_a_rectangle_inside_the_image():
    for seed in range(20):
        mask = cutmix_mask(np.random.default_rng(seed), (64, 96), 1, (0.25, 0.5))
        rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_aspect_varies():
    heights = {
        int(cutmix_mask(np.random.default_rng(seed), (64, 64), 1, (0.25, 0.25)).any(axis=1).sum()) for seed in range(40)
    }
    assert min(heights) < 28 < 40 < max(heights)


def test_overlapping_boxes_invert_each_other():
    masks = [cutmix_mask(np.random.default_rng(seed), (64, 64), 3, (0.9, 0.9)) for seed in range(40)]
    together = np.mean([mask.mean() for mask in masks])
    # Three boxes of 0.3 each that did not invert would cover about 0.3 + 0.7 * 0.3 + 0.49 * 0.3 = 0.66 at random.
    assert 0.2 < together < 0.6


def test_three_boxes_share_the_area():
    rng = np.random.default_rng(0)
    boxes = [cutmix_mask(rng, (240, 240), 3, (0.3, 0.3)).mean() for _ in range(200)]
    assert max(boxes) < 0.32


def test_no_boxes_no_mixing():
    assert not cutmix_mask(np.random.default_rng(0), (8, 8), 0, (0.25, 0.5)).any()
