"""The sweep of every checkpoint against one val.py process for each checkpoint and network, on CamVid's val images.

CPS_TEST_DATA=… python -m tests.benchmarks.bench_sweep [--checkpoints 10] [--images 20] [--rounds 2] [--theirs 2]

Two MobileNetV2 networks of camvid-mobilenetv2 in each checkpoint, each with weights of its own, at 480 x 360. Ours is
one process that scores left, right and their average; theirs is two processes a checkpoint, which cannot score the
average. Both sides are whole processes, started from the shell, with every import and decoding counted; ours fetches
its images and checkpoints from the object store besides, theirs has them as files. With --theirs only so many
checkpoints' processes are run of theirs, and their time is multiplied: they are alike. Then: what one more checkpoint
costs, what the sweep costs besides, and the peak memory of one process of either.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.dataset.layouts import read_layout
from components.dataset.manifest import Manifest
from components.dataset.split import Split, split_labels
from components.dataset.stored.store import store_dataset
from components.labeled_ratio import parse_ratio
from components.networks import processor
from components.recipes import load_recipe
from components.recipes.model import Recipe
from components.runs.key import run_key
from components.runs.record import new_record
from components.storage import keys
from components.storage.client import Store
from tests.benchmarks.measure import object_store, paired, process

FASTER, FIXED, MEMORY = 4.0, 0.10, 1.30
SWEEP = "import sys; from components.evaluation.sweep import evaluate_step; evaluate_step(sys.argv[1], '0/1')"


@dataclass(frozen=True)
class Run:
    """A run as training leaves it, and the same images and checkpoints as plain files."""

    store: Store
    key: str
    entries: list[dict[str, Any]]
    checkpoints: list[Path]
    images: Path
    recipe: Recipe
    environment: dict[str, str]

    def sweep(self, count: int) -> int:
        """Score the first `count` checkpoints anew; returns the process's peak memory in KiB."""
        index = {"run_key": self.key, "checkpoints": self.entries[:count]}
        self.store.put_json(keys.checkpoint_index(self.key), index)
        for entry in self.entries:
            self.store.remove(keys.scores(self.key, entry["epoch"]))
        return process([sys.executable, "-c", SWEEP, self.key], self.environment)

    def reference(self, count: int) -> int:
        """One process for each network of the first `count` checkpoints; returns the highest peak memory in KiB."""
        (height, width), (down, across) = self.recipe.evaluation.crop, self.recipe.evaluation.stride
        numbers = [str(number) for number in (width, height, across, down)]
        program = [sys.executable, "-m", "tests.benchmarks.reference_evaluation"]
        return max(
            process([*program, str(path), branch, str(self.images), *numbers], self.environment)
            for path in self.checkpoints[:count]
            for branch in ("left", "right")
        )


def make_run(store: Store, folder: Path, images: int, checkpoints: int) -> Run:
    source = Path(os.environ["CPS_TEST_DATA"]) / "camvid"
    plain = folder / "camvid"
    plain.mkdir()
    val = (source / "val.txt").read_text().splitlines()[:images]
    for part in ("images", "labels", "classes.json", "train.txt"):
        (plain / part).symlink_to(source / part)
    (plain / "val.txt").write_text("\n".join(val) + "\n")
    manifest = store_dataset(read_layout(plain), store)
    recipe = load_recipe("camvid-mobilenetv2", {"network.pretrained": ""})
    split = split_labels(manifest, "1/8", 0)
    key = run_key(recipe, manifest.name, manifest.digest, split.fingerprint, parse_ratio("1/8"), 0)
    record = new_record(recipe, {}, manifest, split, key)
    store.put_json(keys.run(key, "run.json"), json.loads(record.model_dump_json()))
    store.put_json(keys.run(key, "split.json"), json.loads(split.model_dump_json()))
    paths, entries = write_checkpoints(store, folder, key, manifest, split, recipe, checkpoints)
    listed = folder / "list.txt"
    listed.write_text("".join("\t".join(str(plain / name) for name in line.split()) + "\n" for line in val))
    settings = store.settings
    environment = {
        **os.environ,
        **processor.prepare(),
        "AWS_ENDPOINT_URL": settings.endpoint,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key,
        "CPS_BUCKET": settings.bucket,
        "CPS_CACHE": str(folder / "cache"),
    }
    return Run(store, key, entries, paths, listed, recipe, environment)


def write_checkpoints(
    store: Store, folder: Path, key: str, manifest: Manifest, split: Split, recipe: Recipe, count: int
) -> tuple[list[Path], list[dict[str, Any]]]:
    """Untrained networks, two in each. Made in a process of its own: this one never loads Paddle."""
    from components.networks.weights import checkpoint_meta, pack

    program = f"""
import sys, numpy as np
from components.networks.structures import build
from components.networks.weights import state_arrays
arrays = {{}}
for side in ("left", "right"):
    network = build({recipe.network.structure!r}, {len(manifest.classes)}, seed=len(side))
    arrays.update({{side + "." + name: array for name, array in state_arrays(network).items()}})
np.savez(sys.argv[1], **arrays)
"""
    subprocess.run([sys.executable, "-c", program, str(folder / "made.npz")], check=True, capture_output=True)
    with np.load(folder / "made.npz") as made:
        arrays = {name: made[name] for name in made.files}
    paths, entries = [], []
    for epoch in range(1, count + 1):
        branches = {
            side: {
                name.removeprefix(f"{side}."): array * np.float32(1 + epoch / 1000)
                for name, array in arrays.items()
                if name.startswith(f"{side}.")
            }
            for side in ("left", "right")
        }
        meta = checkpoint_meta(
            structure=recipe.network.structure,
            right_structure="",
            classes=manifest.classes,
            mean=recipe.augmentation.mean,
            std=recipe.augmentation.std,
            crop=recipe.evaluation.crop,
            stride=recipe.evaluation.stride,
            run_key=key,
            split=split.fingerprint,
            dataset=manifest.digest,
            epoch=epoch,
            step=epoch,
        )
        path = folder / f"epoch-{epoch:02d}.safetensors"
        path.write_bytes(pack(branches, meta))
        stored = store.put_file(keys.checkpoint(key, epoch), path)
        paths.append(path)
        entries.append(
            {"epoch": epoch, "step": epoch, "key": stored.key, "sha256": stored.sha256, "size": path.stat().st_size}
        )
    return paths, entries


def line_through(points: list[tuple[int, float]]) -> tuple[float, float]:
    """Seconds that a sweep takes besides, and seconds for each checkpoint: the least squares' line."""
    slope, fixed = np.polyfit([count for count, _ in points], [seconds for _, seconds in points], 1)
    return float(fixed), float(slope)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--theirs", type=int, help="run the reference on so many of the checkpoints; default: all")
    parser.add_argument("--only-comparison", action="store_true", help="leave the cost of a checkpoint out")
    parser.add_argument("--only-cost", action="store_true", help="leave the comparison out")
    options = parser.parse_args()
    count, theirs = options.checkpoints, options.theirs or options.checkpoints
    with object_store() as store, tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        run = make_run(store, Path(name), options.images, count)
        if not options.only_cost:
            work = f"{count} checkpoints x {options.images} images"
            if theirs < count:
                print(f"theirs: {2 * theirs} of its {2 * count} processes are run, and their time is multiplied")
            run.sweep(1)  # the structure is exported once, for all sweeps to come
            paired(
                work,
                lambda: run.sweep(count),
                lambda: run.reference(theirs),
                rounds=options.rounds,
                goal=FASTER,
                warm_up=False,
                their_share=theirs / count,
            )
        if not options.only_comparison:
            cost(run, count, options.rounds)


def cost(run: Run, count: int, rounds: int) -> None:
    points, peaks = list[tuple[int, float]](), []
    run.sweep(1)
    for number in sorted({1, max(1, count // 2), count}) * rounds:
        began = time.perf_counter()
        peaks.append(run.sweep(number))
        points.append((number, time.perf_counter() - began))
    fixed, each = line_through(points)
    share = fixed / (fixed + each * count)
    print("seconds by number of checkpoints:", ", ".join(f"{number}: {seconds:.2f}" for number, seconds in points))
    print(f"{each:.2f} s a checkpoint and {fixed:.2f} s besides, {share:.0%} of a sweep of {count} (goal {FIXED:.0%})")
    own, other = statistics.median(peaks), statistics.median(run.reference(1) for _ in range(2))
    print(f"peak memory {own / 1024:.0f} MiB, theirs {other / 1024:.0f} MiB: {own / other:.2f}x (goal {MEMORY:.2f}x)")


if __name__ == "__main__":
    main()
