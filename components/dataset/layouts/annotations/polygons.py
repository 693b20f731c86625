"""Polygons as pycocotools draws them. Only this module imports it: it comes with the extra `annotations`."""

from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from components.dataset.layouts.annotations.model import Patch
from components.dataset.layouts.annotations.shapes import Points, Runs, Window, compressed_counts


@dataclass(frozen=True, slots=True)
class Polygons:
    """The union of some polygons; one with fewer than three points covers nothing."""

    rings: tuple[Points, ...]

    def patch(self, width: int, height: int) -> Patch | None:
        rings = [ring for ring in self.rings if len(ring) > 2]
        if not rings:
            return None
        window = Window.around(np.concatenate(rings), width, height)
        if window is None:
            return None
        # Shifts by whole pixels do not change how pycocotools rounds.
        shifted = [(ring - (window.left, window.top)).ravel().tolist() for ring in rings]
        runs = coco_mask.merge(coco_mask.frPyObjects(shifted, window.height, window.width))
        # Decoded here, because pycocotools' decode uses a way of making arrays that NumPy 2 warns about.
        counts = compressed_counts(runs["counts"].decode())
        return Patch(window.top, window.left, Runs(counts, window.width, window.height).pixels())
