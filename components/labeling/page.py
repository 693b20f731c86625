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
from components.pages.pictures import WRONG, Pixels, data_uri, ids_thumbnail, jpeg, mask_png, thumbnail
from components.pages.render import render

TEMPLATE = Path(__file__).with_name("label-next.html.j2")
CARDS = 100
"""Maximum number of images on the page, which embeds about 50 kB of pictures for each."""
WIDTH = 320
UNSURE = (0, 90, 181)
"""A blue that is distinct from WRONG and from grey for every kind of colour vision."""


@dataclass(frozen=True)
class Card:
    """A suggestion with its pictures as data: URIs."""

    suggestion: Suggestion
    photograph: str
    left: str
    right: str
    differs: str
    uncertainty: str


def render_suggestions(
    suggestions: Sequence[Suggestion], networks: BestNetworks, reader: DatasetReader, run_key: str, unlabeled: int
) -> str:
    classes = networks.checkpoint.description.classes
    return render(
        TEMPLATE,
        title=f"What to label next in {reader.manifest.name}",
        cards=[_card(item, networks, reader) for item in suggestions[:CARDS]],
        total=len(suggestions),
        unlabeled=unlabeled,
        run_key=run_key,
        epoch=networks.epoch,
        classes=[(item.name, item.color) for item in classes],
    )


def _card(suggestion: Suggestion, networks: BestNetworks, reader: DatasetReader) -> Card:
    checkpoint, image = networks.checkpoint, reader.image(suggestion.image)
    found = compare([checkpoint.engines[branch] for branch in ("left", "right")], image, checkpoint.description)
    classes = checkpoint.description.classes
    masks = [data_uri(mask_png(ids_thumbnail(ids, WIDTH), classes)) for ids in (found.left, found.right)]
    return Card(
        suggestion,
        photograph=data_uri(jpeg(thumbnail(image, WIDTH), 80)),
        left=masks[0],
        right=masks[1],
        differs=data_uri(jpeg(thumbnail(tint(image, found.differs.astype(np.float32), WRONG), WIDTH), 78)),
        uncertainty=data_uri(jpeg(thumbnail(tint(image, found.uncertainty, UNSURE), WIDTH), 78)),
    )


def tint(photograph: Pixels, strength: NDArray[np.float32], color: tuple[int, int, int]) -> Pixels:
    """Tint the photograph, in pale grey, with `color`; `strength` is (H, W) in [0, 1]."""
    grey = photograph.mean(axis=2, dtype=np.float32) * np.float32(0.45) + np.float32(130)
    share = strength[..., None]
    mixed = grey[..., None] * (1 - share) + np.array(color, np.float32) * share
    return np.asarray(mixed.round(), dtype=np.uint8)
