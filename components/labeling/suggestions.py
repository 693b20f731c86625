"""Which images to label next: a ranking that does not suggest one scene fifty times. Pure arithmetic.

    priority    the mean of two ranks, by disagreement and by uncertainty: 1 for the image that is highest in both,
                0 for the one that is lowest. Ranks, since the two have no common unit.
    novelty     the distance of an image's appearance to the nearest one that is labelled or already suggested
    next        the image whose priority times novelty is largest; then again, until there are enough

So of two images that look alike the second is worth little once the first is chosen (a weighted farthest-point walk,
Sener and Savarese 2018 without the weights). Nothing is drawn at random, and equal ones are taken in order of name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.labeling.disagreement import Measure

Floats64 = NDArray[np.float64]


@dataclass(frozen=True)
class Suggestion:
    """`rank` counts from 1. `nearest` is the labelled or earlier suggested image that looks most like it, or empty."""

    rank: int
    image: str
    priority: float
    disagreement: float
    uncertainty: float
    novelty: float | None
    """None where nothing is labelled or suggested before it."""
    nearest: str


def suggest(unlabeled: Mapping[str, Measure], labeled: Mapping[str, Measure], count: int) -> list[Suggestion]:
    """At most `count` of the unlabelled images, in the order in which they should be labelled."""
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
    """The mean of both rank shares, in [0, 1]."""
    shares = [
        _rank_shares(np.array([each.disagreement for each in measures])),
        _rank_shares(np.array([each.uncertainty for each in measures])),
    ]
    return np.asarray(np.mean(shares, axis=0))


def _rank_shares(values: Floats64) -> Floats64:
    """The share of the others that are below each value; those that are equal count half."""
    if len(values) == 1:
        return np.ones(1)
    ordered = np.sort(values)
    below, up_to = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((below + (up_to - 1 - below) / 2) / (len(values) - 1))
