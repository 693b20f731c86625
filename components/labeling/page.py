"""Render the suggestions as a page: photographs with both predictions, disagreement and uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.dataset.stored.reader import DatasetReader
from components.labeling.disagreement import compare
from components.labeling.measures import BestNetworks
from components.labeling.suggestions import Suggestion
from components.networks.image_size import reduced
from components.pages.pictures import Pixels
from components.pages.render import render
from components.pages.shown import Limits, Painter, photograph, ratio

TEMPLATE = Path(__file__).with_name("label-next.html.j2")
CARDS = 48
"""Maximum number of images on the page, whose pictures take about 2 MB together."""
LIMITS = Limits(width=480, photograph=18_000, mask=4_000)
MAP = Limits(width=320, photograph=6_000, mask=0)
LEGEND = 25
UNSURE = (0, 90, 181)
"""A blue that is distinct from the orange of disagreement and from grey for every kind of colour vision."""


@dataclass(frozen=True)
class Card:
    """A suggestion with its pictures as data: URIs."""

    suggestion: Suggestion
    ratio: float
    photograph: str
    left: str
    right: str
    uncertainty: str


def render_suggestions(
    suggestions: Sequence[Suggestion], networks: BestNetworks, reader: DatasetReader, run_key: str, unlabeled: int
) -> str:
    painter = Painter(networks.checkpoint.description.classes)
    legend = [(number, name, color, "") for number, (name, color) in enumerate(painter.colors.items())]
    return render(
        TEMPLATE,
        title=f"What to label next in {reader.manifest.name}",
        shown_classes=painter.classes,
        cards=[_card(item, networks, reader, painter) for item in suggestions[:CARDS]],
        total=len(suggestions),
        unlabeled=unlabeled,
        run_key=run_key,
        epoch=networks.epoch,
        legend=legend[:LEGEND],
    )


def _card(suggestion: Suggestion, networks: BestNetworks, reader: DatasetReader, painter: Painter) -> Card:
    checkpoint, image = networks.checkpoint, reader.image(suggestion.image)
    found = compare([checkpoint.engines[branch] for branch in ("left", "right")], image, checkpoint.description)
    seen = reduced(image, checkpoint.description.longest_side)
    return Card(
        suggestion,
        ratio=ratio(image),
        photograph=photograph(image, LIMITS),
        left=painter.mask(found.left, LIMITS),
        right=painter.mask(found.right, LIMITS),
        uncertainty=photograph(tint(seen, found.uncertainty, UNSURE), MAP),
    )


def tint(photograph: Pixels, strength: NDArray[np.float32], color: tuple[int, int, int]) -> Pixels:
    """Tint the photograph, in pale grey, with `color`; `strength` is (H, W) in [0, 1]."""
    grey = photograph.mean(axis=2, dtype=np.float32) * np.float32(0.45) + np.float32(130)
    share = strength[..., None]
    mixed = grey[..., None] * (1 - share) + np.array(color, np.float32) * share
    return np.asarray(mixed.round(), dtype=np.uint8)
