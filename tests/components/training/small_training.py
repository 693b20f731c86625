"""A small batch and recipe that train in milliseconds."""

from dataclasses import fields
from typing import Any

import numpy as np

from components.recipes import Recipe, load_recipe
from components.training import cps
from components.training.cps import Batch
from components.training.losses import Criterion
from components.training.pair import Pair

CLASSES = 4
METHOD_OPTIONS: dict[str, Any] = {
    "cps.teacher": "average_eval",
    "cps.strong_augmentation": 0.8,
    "cps.strong_operations": 3,
    "cps.strong_views": 2,
    "cps.feature_dropout": 0.5,
    "cps.rare_class_paste": 0.5,
    "cps.adaptive_cutmix": True,
}
"""Every option of the method at once."""


def make_recipe(**overrides: Any) -> Recipe:
    settings: dict[str, Any] = {
        "augmentation.crop": [32, 48],
        "cps.burn_in": 0.0,
        "training.batch_size": 2,
        "training.epochs": 2,
    }
    return load_recipe("demo", {**settings, **{name.replace("__", "."): value for name, value in overrides.items()}})


def make_batch(step: int, size: int = 2, seed: int = 0, views: int = 1) -> Batch:
    rng = np.random.default_rng([seed, step])
    images = rng.normal(0, 1, (3, size, 3, 32, 48)).astype(np.float32)
    mask = rng.random((size, 32, 48)) < 0.4
    labels = rng.integers(0, CLASSES, (size, 32, 48))
    labels[:, :4] = 255
    if views > 1:
        mask = rng.random((size * views, 32, 48)) < 0.4
    first, second = (np.repeat(part, views, axis=0) for part in images[1:])
    return Batch(
        labeled=images[0],
        labels=labels,
        first=images[1],
        second=images[2],
        mixed=np.where(mask[:, None], second, first),
        mask=mask,
        void=np.zeros_like(mask),
        names=("a.png", "b.png"),
        positions=tuple(range(step * size, (step + 1) * size)),
    )


def slots(batch: Batch, chosen: list[int]) -> Batch:
    """A share of a batch with one view."""
    parts = {item.name: getattr(batch, item.name) for item in fields(batch) if item.name not in ("names", "positions")}
    parts = {name: part if part is None else part[chosen] for name, part in parts.items()}
    return Batch(**parts, names=batch.names, positions=tuple(batch.positions[slot] for slot in chosen))


def make_pair(recipe: Recipe, *, threads: bool = False, seed: int = 7) -> Pair:
    pair = Pair(recipe, CLASSES, seed, threads=threads)
    pair.start()
    return pair


def run(pair: Pair, criterion: Criterion, first: int, last: int) -> list[float]:
    """The losses of steps `first` to `last`."""
    views = pair.recipe.cps.strong_views
    return [
        cps.step(pair, make_batch(step, views=views), criterion, weight=1.0, learning_rate=0.01, number=step).total
        for step in range(first, last)
    ]
