"""Paste classes of labelled images onto mixed images, rare ones most often. The masks are known from the labels.

ClassMix (Olsson et al., WACV 2021) pastes half of the classes of one image onto another, x' = M x_A + (1 - M) x_B, with
M from predictions. Here A is labelled, so M and the target under it are the truth, as in copy-paste (Ghiasi et al.,
CVPR 2021): pseudo labels miss classes such as poles and signs. Class c is drawn with a probability proportional to
1 / f_c, where f_c is its share of the labelled pixels.
"""

import numpy as np
from numpy.typing import NDArray

from components.errors import UserError

NOT_PASTED = -1
"""Marks the pixels of a mixed image that come from unlabelled images, among the labels of those that were pasted."""
LEAST_SHARE = 0.001
"""Rarer classes count as this frequent; otherwise, one with a few pixels would be pasted all the time."""


class RareClasses:
    """Draws labelled images to paste from, and the classes to paste.

    `pixels` is the number of pixels of each class in each labelled image, (images, C).
    """

    def __init__(self, pixels: NDArray[np.int64]) -> None:
        totals = pixels.sum(axis=0)
        if not totals.any():
            raise UserError("cps.rare_class_paste needs labelled pixels, but all labels are void: set it to 0")
        shares = np.maximum(totals / totals.sum(), LEAST_SHARE)
        weights = np.where(totals > 0, 1 / shares, 0.0)
        self.chances: NDArray[np.float64] = weights / weights.sum()
        """Probability of each class, (C,)."""
        self._present = pixels > 0

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return a class, and the index of a labelled image that has it."""
        wanted = int(rng.choice(len(self.chances), p=self.chances))
        return wanted, int(rng.choice(np.flatnonzero(self._present[:, wanted])))

    def draw_mask(self, label: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return the pixels of half of a label's classes, rounded up: (H, W), all False if the label is void."""
        found = np.unique(label)
        found = found[found < len(self.chances)]
        if not len(found):
            return np.zeros(label.shape, dtype=bool)
        chances = self.chances[found]
        chosen = rng.choice(found, size=(len(found) + 1) // 2, replace=False, p=chances / chances.sum())
        return np.isin(label, chosen)
