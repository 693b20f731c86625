"""Count a run's arithmetic and time its loader: the process of `cps plan --gpu`.

    python3 -m components.training.batches.probe FOLDER

reads run.json and split.json from the folder, and writes work.json to it. It trains nothing, and writes nothing to the
store.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from components.dataset.split import Split
from components.dataset.stored.reader import DatasetReader
from components.inference.passes import scaled_size
from components.inference.sliding import window_starts
from components.networks import processor
from components.networks.image_size import reduced_size
from components.recipes.loader import parse_recipe
from components.recipes.model import Recipe
from components.runs.planning.probes import WorkProbe
from components.runs.record import RunRecord
from components.step_guard import die_with_parent, step_guard
from components.storage.client import open_store

_SAMPLE = 8
"""Number of validation images whose size is read."""
_BATCHES_EACH = 2
"""Batches that each core loads."""


def probe_work(folder: Path) -> WorkProbe:
    record = RunRecord.model_validate_json((folder / "run.json").read_bytes())
    split = Split.model_validate_json((folder / "split.json").read_bytes())
    recipe = parse_recipe(record.settings, "probe")
    processor.prepare()
    from components.networks.flops import forward_flops
    from components.networks.structures import build
    from components.training.batches.data import Share, TrainingData
    from components.training.schedule import burn_in_steps, plan

    length = plan(recipe, labeled=len(split.labeled), unlabeled=len(split.unlabeled), ratio=record.labeled_ratio)
    with DatasetReader(open_store(), record.dataset.digest) as reader:
        classes = len(reader.manifest.classes)
        structures = list(recipe.network.structures.values())
        networks = {name: build(name, classes) for name in set(structures)}

        def both(size: tuple[int, int]) -> int:
            flops = {name: forward_flops(layer, size) for name, layer in networks.items()}
            return sum(flops[name] for name in structures)

        cores = processor.usable_cores()
        data = TrainingData(reader, split, recipe, record.seed, Share(), for_gpu=True)
        with ThreadPoolExecutor(cores) as pool:
            began = time.monotonic()
            list(pool.map(data.batch, range(cores * _BATCHES_EACH)))
            seconds = time.monotonic() - began
        unlabeled = 2 if recipe.cps.weight > 0 else 0
        images = recipe.training.batch_size * (1 + unlabeled)
        names = [sample.image for sample in split.val]
        sample = names[:: max(1, len(names) // _SAMPLE)]
        return WorkProbe(
            epochs=length.epochs,
            steps=length.steps,
            checkpoints=len(length.checkpoint_epochs),
            batch_size=recipe.training.batch_size,
            crop=recipe.augmentation.crop,
            precision=recipe.training.precision,
            has_unlabeled=bool(unlabeled),
            strong_views=recipe.cps.strong_views,
            crop_flops=both(recipe.augmentation.crop),
            window_flops=both(recipe.evaluation.crop),
            windows=statistics.mean(_windows(reader.image(name).shape, recipe) for name in sample) if sample else 0,
            val_images=sum(item.label is not None for item in split.val),
            test_images=sum(item.label is not None for item in split.test),
            images_per_step=images,
            burn_in_steps=burn_in_steps(recipe, length.steps) if unlabeled else 0,
            loader_images_per_second=images * cores * _BATCHES_EACH / seconds,
            cores=cores,
        )


def _windows(shape: Sequence[int], recipe: Recipe) -> int:
    """Return the number of windows of an image, over all scales and mirroring."""
    settings, seen = recipe.evaluation, reduced_size(shape[0], shape[1], recipe.network.longest_side)
    total = 0
    for scale in settings.scales:
        size = scaled_size(seen, scale)
        rows, columns = (window_starts(*axis) for axis in zip(size, settings.crop, settings.stride, strict=True))
        total += len(rows) * len(columns) * (2 if settings.flip else 1)
    return total


def main() -> None:
    die_with_parent()
    folder = Path(sys.argv[1])
    with step_guard("probe"):
        (folder / "work.json").write_text(probe_work(folder).model_dump_json())


if __name__ == "__main__":
    main()
