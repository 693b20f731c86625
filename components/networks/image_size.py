"""The size at which networks see an image: its own, or reduced so that its longer side has a given number of pixels.

OpenCV is imported on use, because the image for the first steps lacks it and they only need `reduced_size`.
"""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def reduced_size(height: int, width: int, longest_side: int) -> tuple[int, int]:
    """Return height and width after reduction to `longest_side`; 0 and smaller images keep theirs."""
    longer = max(height, width)
    if not 0 < longest_side < longer:
        return height, width
    return max(1, round(height * longest_side / longer)), max(1, round(width * longest_side / longer))


def reduced(image: Pixels, longest_side: int) -> Pixels:
    """Return an image, (H, W, 3) uint8, at its reduced size. Each pixel is the mean of those it replaces."""
    import cv2

    return _resized(image, longest_side, cv2.INTER_AREA)


def reduced_label(label: Pixels, longest_side: int) -> Pixels:
    """Return a label, (H, W) uint8, at its reduced size. Each pixel is the one closest to its centre."""
    import cv2

    return _resized(label, longest_side, cv2.INTER_NEAREST_EXACT)


def _resized(pixels: Pixels, longest_side: int, interpolation: int) -> Pixels:
    import cv2

    size = reduced_size(pixels.shape[0], pixels.shape[1], longest_side)
    if size == pixels.shape[:2]:
        return pixels
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=interpolation), dtype=np.uint8)
