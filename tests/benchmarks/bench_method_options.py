"""What each option of the method adds to a training step and to the preparation of its batch.

python -m tests.benchmarks.bench_method_options [SETTING=VALUE …]

Steps of the recipe photos on generated street scenes, with and without the option in turn, in one process with a thread
per network. Without arguments: every option alone. Several settings in one argument, joined by commas, are one option.
"""

import os
import statistics
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from tests.benchmarks.measure import seconds

ROUNDS = int(os.environ.get("CPS_BENCH_ROUNDS", 9))
HEIGHT, WIDTH = 384, 512
OPTIONS = (
    "cps.teacher=average",
    "cps.teacher=average_eval",
    "cps.strong_augmentation=1",
    "cps.strong_augmentation=1,cps.strong_operations=3",
    "cps.strong_augmentation=1,cps.strong_views=2",
    "cps.feature_dropout=0.5",
    "cps.rare_class_paste=0.5",
    "cps.adaptive_cutmix=true",
)


class Streets:
    """Street scenes in memory, read as a DatasetReader's are."""

    def __init__(self, names: list[str]) -> None:
        from components.scenes.generate import draw_street
        from components.scenes.model import CLASSES

        self.manifest: Any = SimpleNamespace(digest="0" * 64, files={}, ignore_index=255, classes=CLASSES)
        self._drawn = {name: draw_street(np.random.default_rng(int(name)), WIDTH, HEIGHT) for name in names}

    def image(self, name: str) -> np.ndarray:
        return self._drawn[name][0]

    def label(self, name: str) -> np.ndarray:
        return self._drawn[name][1]


class Trained:
    """A training with an option, or without any."""

    def __init__(self, option: str, reader: Any, split: Any) -> None:
        from components.recipes import load_recipe
        from components.training.batches.data import Share, TrainingData
        from components.training.losses import Criterion
        from components.training.pair import Pair

        pairs = (setting.split("=") for setting in option.split(",") if option)
        given = {name: yaml.safe_load(value) for name, value in pairs}
        recipe = load_recipe("photos", {"network.pretrained": "none", **given})
        self.data = TrainingData(reader, split, recipe, 0, Share())
        self.pair = Pair(recipe, len(reader.manifest.classes), 0, threads=True)
        self.pair.start()
        self.criterion = Criterion(recipe.loss, 255, min_kept=1)

    def measure(self, number: int) -> tuple[float, float]:
        """Seconds of a step, and of the preparation of its batch in one thread."""
        from components.training import cps

        made: list[Any] = []
        preparation = seconds(lambda: made.append(self.data.batch(number)))
        step = partial(cps.step, self.pair, made[0], self.criterion, weight=1.0, learning_rate=0.003, number=number)
        return seconds(step), preparation


def main() -> None:
    from components.networks import processor

    processor.prepare_training(networks=2)
    names = [str(number) for number in range(40)]
    reader = Streets(names)
    labeled = tuple(SimpleNamespace(image=name, label=name) for name in names[:10])
    split = SimpleNamespace(labeled=labeled, unlabeled=tuple(names[10:]))
    plain = Trained("", reader, split)
    for option in sys.argv[1:] or OPTIONS:
        changed, steps, preparations = Trained(option, reader, split), [], []
        for number in range(-2, ROUNDS):
            order = (plain, changed) if number % 2 else (changed, plain)
            taken = {training: training.measure(number + 2) for training in order}
            if number >= 0:
                steps.append(taken[changed][0] / taken[plain][0])
                preparations.append(1000 * (taken[changed][1] - taken[plain][1]))
        print(
            f"{option:<52}step {statistics.median(steps):5.2f}x ({min(steps):.2f} to {max(steps):.2f})  "
            f"batch {statistics.median(preparations):+6.1f} ms, {ROUNDS} rounds",
            flush=True,
        )


if __name__ == "__main__":
    main()
