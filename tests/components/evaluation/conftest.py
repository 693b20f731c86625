"""A run as training leaves it: dataset, split, record and checkpoints in a real store."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from components.dataset.manifest import Manifest
from components.dataset.prepare import prepare
from components.dataset.split import Split, split_labels
from components.labeled_ratio import parse_ratio
from components.networks.structures import build
from components.networks.weights import checkpoint_meta, pack, state_arrays
from components.recipes import load_recipe
from components.recipes.model import Recipe
from components.runs.key import run_key
from components.runs.record import new_record
from components.storage import keys
from components.storage.client import Store

SCENES = "scenes:train=8,val=5,width=72,height=48,seed=0"
OVERRIDES: dict[str, Any] = {"evaluation.crop": [48, 48], "evaluation.stride": [48, 24]}


@dataclass(frozen=True)
class TrainedRun:
    store: Store
    key: str
    manifest: Manifest
    split: Split
    recipe: Recipe
    cache: Path

    def put_checkpoint(self, epoch: int, **changes: Any) -> dict[str, Any]:
        """Two untrained networks, as a checkpoint in the store; returns its entry in the index."""
        said = {
            "structure": "small-fpn",
            "classes": self.manifest.classes,
            "mean": self.recipe.augmentation.mean,
            "std": self.recipe.augmentation.std,
            "crop": self.recipe.evaluation.crop,
            "stride": self.recipe.evaluation.stride,
            "run_key": self.key,
            "split": self.split.fingerprint,
            "dataset": self.manifest.digest,
            "epoch": epoch,
            "step": epoch * 4,
            **changes,
        }
        count = len(said["classes"])
        branches = {
            branch: state_arrays(build("small-fpn", count, seed=10 * epoch + number))
            for number, branch in enumerate(("left", "right"))
        }
        reference = self.store.put_bytes(keys.checkpoint(self.key, epoch), pack(branches, checkpoint_meta(**said)))
        return {"epoch": epoch, "step": epoch * 4, "key": reference.key, "sha256": reference.sha256, "size": 1}

    def put_index(self, entries: list[dict[str, Any]]) -> None:
        self.store.put_json(keys.checkpoint_index(self.key), {"run_key": self.key, "checkpoints": entries})


@pytest.fixture
def trained_run(store: Store, tmp_path: Path) -> TrainedRun:
    """A run with checkpoints of epochs 2, 4 and 6: made for the first test that asks, copied for the others."""
    if _MADE:
        run, objects = _MADE[0]
        for name, data in objects.items():
            store.put_bytes(name, data)
        return replace(run, store=store, cache=tmp_path / "cache")
    run = _train(store, tmp_path)
    _MADE.append((run, {item.key: store.get_bytes(item.key) for item in store.list("")}))
    return run


_MADE: list[tuple[TrainedRun, dict[str, bytes]]] = []


def _train(store: Store, tmp_path: Path) -> TrainedRun:
    manifest = prepare(SCENES, "", store, tmp_path / "work")
    split = split_labels(manifest, "1/2", 0)
    recipe = load_recipe("demo", OVERRIDES)
    key = run_key(recipe, manifest.name, manifest.digest, split.fingerprint, parse_ratio("1/2"), 0)
    record = new_record(recipe, OVERRIDES, manifest, split, key)
    store.put_json(keys.run(key, "run.json"), json.loads(record.model_dump_json()))
    store.put_json(keys.run(key, "split.json"), json.loads(split.model_dump_json()))
    run = TrainedRun(store, key, manifest, split, recipe, tmp_path / "cache")
    run.put_index([run.put_checkpoint(epoch) for epoch in (2, 4, 6)])
    return run
