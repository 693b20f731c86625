"""The weights file of a pair of small networks with random weights."""

from pathlib import Path

from components.contract import Class
from components.networks.structures import build
from components.networks.weights import checkpoint_meta, pack, state_arrays

CLASSES = (Class(name="road", color=(128, 64, 128)), Class(name="sky", color=(70, 130, 180)))


def write_weights(path: Path) -> Path:
    """Write the file of a pair that sees windows of 32 x 32 pixels, and return its path."""
    meta = checkpoint_meta(
        structure="small-fpn",
        classes=CLASSES,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        crop=(32, 32),
        stride=(32, 16),
        run_key="demo-1-8-s0-0123456789ab",
        split="f" * 64,
        dataset="d" * 64,
        epoch=3,
        step=30,
    )
    branches = {branch: state_arrays(build("small-fpn", 2, seed)) for seed, branch in enumerate(("left", "right"))}
    path.write_bytes(pack(branches, meta))
    return path
