"""Fixtures that write a small dataset, which tests modify and break."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = {
    "classes": [
        {"id": 0, "name": "road", "color": [128, 64, 128]},
        {"id": 1, "name": "sky", "color": [70, 130, 180]},
        {"id": 2, "name": "car", "color": [0, 0, 142]},
    ],
    "ignore_index": 255,
}

MakeDataset = Callable[..., Path]


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """Return a function that writes a `lists` dataset with `train` and `val` labelled images, by default of 12 x 8."""

    def make(train: int = 8, val: int = 2, name: str = "tiny", seed: int = 0, size: tuple[int, int] = (8, 12)) -> Path:
        folder = tmp_path / name
        rng = np.random.default_rng(seed)
        for part, count in (("train", train), ("val", val)):
            lines = []
            for index in range(count):
                image, label = f"images/{part}/{index:02d}.png", f"labels/{part}/{index:02d}.png"
                for path in (image, label):
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / image)
                ids = rng.choice(np.array([0, 1, 2, 255], np.uint8), size)
                Image.fromarray(ids).save(folder / label)
                lines.append(f"{image} {label}\n")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{part}.txt").write_text("".join(lines))
        (folder / "classes.json").write_text(json.dumps(CLASSES))
        return folder

    return make
