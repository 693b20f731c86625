"""CutMix boxes: which pixels of a mixed image come from the second one (French et al. 2020, Yun et al. 2019)."""

import numpy as np
from numpy.typing import NDArray


def cutmix_mask(
    rng: np.random.Generator, size: tuple[int, int], boxes: int, area: tuple[float, float]
) -> NDArray[np.bool_]:
    """A mask of `size` (H, W), True where the second image is pasted.

    Each of the boxes covers a share drawn from `area`, divided by their number, at a random aspect and place inside the
    image. Where boxes overlap, the later inverts the earlier, as the reference does.
    """
    mask = np.zeros(size, dtype=bool)
    if boxes == 0:
        return mask
    shares = rng.uniform(area[0], area[1], boxes)
    # A box's height is shares ** u and its width shares ** (1 - u): their product is the share.
    heights = np.exp(rng.uniform(0.0, 1.0, boxes) * np.log(np.maximum(shares, 1e-12)))
    sides = np.stack([heights, shares / heights], axis=1) * np.sqrt(1.0 / boxes)
    lengths = np.round(sides * np.array(size))
    corners = np.round((np.array(size) - lengths) * rng.uniform(0.0, 1.0, lengths.shape))
    for (top, left), (height, width) in zip(corners.astype(int), lengths.astype(int), strict=True):
        box = mask[top : top + height, left : left + width]
        np.logical_not(box, out=box)
    return mask
