"""Pictures that a small network learns in seconds."""

import numpy as np
from numpy.typing import NDArray

CLASSES = 4
SIZE = 64
COLORS = np.array([[0, 0, 0], [1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5]], np.float32)


def scenes(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Coloured rectangles in noise, (N, 3, H, W), and their classes, (N, H, W)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, SIZE, SIZE), np.int64)
    for label in labels:
        for class_id in range(1, CLASSES):
            top, left = rng.integers(0, SIZE - 16, 2)
            height, width = rng.integers(12, 32, 2)
            label[top : top + height, left : left + width] = class_id
    images = COLORS[labels] + rng.normal(scale=0.4, size=(*labels.shape, 3))
    return images.transpose(0, 3, 1, 2).astype(np.float32), labels
