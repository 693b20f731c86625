"""A batch of noise, of the shape that a training step takes."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from components.training.cps import Batch


def random_batch(rng: np.random.Generator, images: int, crop: tuple[int, int], classes: int) -> "Batch":
    """`images` labelled ones and as many unlabelled pairs, each (3, *crop), mixed as the paper does."""
    from components.training.batches.augmentation import cutmix_mask
    from components.training.cps import Batch

    labeled, first, second = rng.standard_normal((3, images, 3, *crop)).astype(np.float32)
    mask = np.stack([cutmix_mask(rng, crop, 3, (0.25, 0.5)) for _ in range(images)])
    return Batch(
        labeled=labeled,
        labels=rng.integers(0, classes, (images, *crop)),
        first=first,
        second=second,
        mixed=np.where(mask[:, None], second, first),
        mask=mask,
        void=np.zeros_like(mask),
        names=(),
    )
