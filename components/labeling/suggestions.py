"""Rank the images to label next without suggesting the same scene over and over.

    priority    mean of an image's ranks by disagreement and by uncertainty: 1 if it is highest in both, 0 if lowest.
                Ranks are used because the two measures have no common unit.
    novelty     distance of the image's appearance to the nearest labelled or already suggested image
    next        the image with the largest priority times novelty, repeated until there are enough

Once an image is chosen, images that look like it lose most of their value. This is a weighted farthest-point traversal
(Sener and Savarese 2018, who use no weights). It is deterministic: ties are resolved by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.labeling.disagreement import Measure

Floats64 = NDArray[np.float64]


@dataclass(frozen=True)
class Suggestion:
    """`rank` counts from 1. `nearest` is the most similar labelled or earlier suggested image, or empty."""

    rank: int
    image: str
    priority: float
    disagreement: float
    uncertainty: float
    novelty: float | None
    """None if no image is labelled or suggested before it."""
    nearest: str


def suggest(unlabeled: Mapping[str, Measure], labeled: Mapping[str, Measure], count: int) -> list[Suggestion]:
    """Return at most `count` of the unlabelled images, in the order in which to label them."""
    names = sorted(unlabeled)
    if not names:
        return []
    measures = [unlabeled[name] for name in names]
    priorities = _priorities(measures)
    appearances = np.stack([each.appearance for each in measures]).astype(np.float64)
    novelty, nearest = np.full(len(names), np.inf), np.full(len(names), "", dtype=object)

    def cover(name: str, appearance: NDArray[np.floating]) -> None:
        distances = np.sqrt(((appearances - appearance) ** 2).sum(axis=1))
        closer = distances < novelty
        novelty[closer], nearest[closer] = distances[closer], name

    for name in sorted(labeled):
        cover(name, labeled[name].appearance)
    found: list[Suggestion] = []
    left = np.ones(len(names), bool)
    while len(found) < min(count, len(names)):
        worth = priorities * np.where(np.isfinite(novelty), novelty, 1.0)
        best = int(np.argmax(np.where(left, worth, -1.0)))
        each, distance = measures[best], float(novelty[best])
        found.append(
            Suggestion(
                rank=len(found) + 1,
                image=names[best],
                priority=float(priorities[best]),
                disagreement=each.disagreement,
                uncertainty=each.uncertainty,
                novelty=distance if np.isfinite(distance) else None,
                nearest=str(nearest[best]),
            )
        )
        left[best] = False
        cover(names[best], appearances[best])
    return found


def _priorities(measures: list[Measure]) -> Floats64:
    """Return the mean of both rank shares, in [0, 1]."""
    shares = [
        _rank_shares(np.array([each.disagreement for each in measures])),
        _rank_shares(np.array([each.uncertainty for each in measures])),
    ]
    return np.asarray(np.mean(shares, axis=0))


def _rank_shares(values: Floats64) -> Floats64:
    """Return for each value the share of the other values below it, where equal values count half."""
    if len(values) == 1:
        return np.ones(1)
    ordered = np.sort(values)
    below, up_to = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((below + (up_to - 1 - below) / 2) / (len(values) - 1))
