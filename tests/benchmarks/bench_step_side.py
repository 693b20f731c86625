"""One side of bench_step, told by lines on standard input what to do: `step`, then `end`."""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.random_batch import random_batch

CROP, BATCH = int(os.environ.get("CPS_BENCH_CROP", 256)), 2
CLASSES = 19
ANSWER = "answer: "
"""Begins the lines that are for the other process: the reference prints a log of its own."""


def main() -> None:
    side, checkout, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if side == "ours":
        ours()
    else:
        theirs(checkout, folder)


class Orders:
    """Waits for an order before each step, and answers with its seconds after it."""

    def __init__(self, save: Callable[[Any], dict[str, int]]) -> None:
        self._save = save
        self._began = 0.0

    def before_step(self, state: Any) -> None:
        if sys.stdin.readline().strip() != "step":
            # Before anything is saved, which takes memory that a step does not.
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            answer({"memory": memory, **self._save(state)})
            sys.exit()
        self._began = time.perf_counter()

    def after_step(self) -> None:
        answer({"seconds": time.perf_counter() - self._began})


def answer(values: dict[str, Any]) -> None:
    print(f"\n{ANSWER}{json.dumps(values)}", flush=True)


def theirs(checkout: Path, folder: Path) -> None:
    from tests.benchmarks.reference_step import save_reference, train_reference

    def save(state: Any) -> dict[str, int]:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            save_reference(state, Path(name))
            sizes = {path.name: path.stat().st_size for path in Path(name).iterdir()}
        return {"checkpoint": sizes["model.pdparams"], "recovery": sum(sizes.values())}

    orders = Orders(save)
    stepped = False

    def between(state: Any) -> None:
        nonlocal stepped
        # The first step is not asked for: the reference is only reached where a step ends.
        if stepped:
            orders.after_step()
        stepped = True
        orders.before_step(state)

    train_reference(checkout, CROP, BATCH, between, steps=100)


def ours() -> None:
    from components.networks import processor

    print(processor.prepare_training(networks=2), file=sys.stderr)
    import numpy as np

    from components.networks.weights import checkpoint_meta, pack
    from components.recipes import load_recipe
    from components.training import cps
    from components.training.losses import Criterion, min_kept_pixels
    from components.training.pair import Pair
    from components.training.recovery import Recovery, pack_recovery

    recipe = load_recipe(
        "cityscapes-deeplabv3p-resnet50", {"augmentation.crop": [CROP, CROP], "training.batch_size": BATCH}
    )
    pair = Pair(recipe, CLASSES, 0, threads=True)
    pair.start()
    criterion = Criterion(recipe.loss, 255, min_kept_pixels(recipe.loss, (CROP, CROP), BATCH))
    rng = np.random.default_rng(0)

    def batch() -> cps.Batch:
        return random_batch(rng, BATCH, (CROP, CROP), CLASSES)

    def save(_state: Any) -> dict[str, int]:
        networks = {name: branch.weights() for name, branch in pair.branches.items()}
        arrays = {f"{name}.{key}": array for name, side in pair.branches.items() for key, array in side.state().items()}
        meta = checkpoint_meta(
            structure=recipe.network.structure,
            right_structure="",
            classes=[],
            mean=recipe.augmentation.mean,
            std=recipe.augmentation.std,
            crop=(CROP, CROP),
            stride=(CROP, CROP),
            run_key="",
            split="",
            dataset="",
            epoch=0,
            step=0,
        )
        return {"checkpoint": len(pack(networks, meta)), "recovery": len(pack_recovery(Recovery(0, arrays, {}), ""))}

    orders = Orders(save)
    pair.seed(0, 0)
    made = cps.step(pair, batch(), criterion, weight=5.0, learning_rate=0.01, number=0)  # as the reference's first
    for number in range(1, 1000):
        orders.before_step(None)
        pair.seed(0, number)
        made = cps.step(pair, batch(), criterion, weight=5.0, learning_rate=0.01, number=number)
        assert np.isfinite(made.total)
        orders.after_step()


if __name__ == "__main__":
    main()
