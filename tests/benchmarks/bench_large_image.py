"""Peak memory of `cps predict` on an image of any size. Goal: 16,384 x 16,384 pixels within 4 GB.

python -m tests.benchmarks.bench_large_image [--side 16384] [--stride 683]

A picture of coloured blocks, an untrained small network, crop 1024: what is measured is memory, which a longer stride
leaves as it is, in less time. The pixels alone take 3 bytes each, 805 MB; float32 logits of 19 classes took 20 GB.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2

from tests.benchmarks.measure import process

GOAL = 4e9
WEIGHTS = """
import sys
from pathlib import Path
from components.networks.structures import build
from components.networks.weights import canonical, checkpoint_meta, state_arrays, FORMAT
from safetensors.numpy import save
classes = [{"id": i, "name": f"class {i}", "color": [13 * i, 90, 255 - 13 * i]} for i in range(19)]
meta = checkpoint_meta(
    structure="small-fpn", right_structure="", classes=classes, mean=(0.5,) * 3, std=(0.25,) * 3, crop=(1024, 1024),
    stride=(683, 683), run_key="", split="", dataset="", epoch=1, step=1,
)
arrays = state_arrays(build("small-fpn", 19, 0))
Path(sys.argv[1]).write_bytes(canonical(save(arrays, {"format": FORMAT, **meta, "branches": "only"})))
"""

PAINT = """
import sys
import cv2, numpy as np
side = int(sys.argv[2])
blocks = np.random.default_rng(0).integers(0, 256, (side // 64 + 1,) * 2 + (3,), np.uint8)
cv2.imwrite(sys.argv[1], blocks.repeat(64, 0).repeat(64, 1)[:side, :side])
"""
"""In processes of their own: what a process that has grown starts is counted as large as it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--stride", type=int, default=683)
    options = parser.parse_args()
    side = options.side
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        image, weights = folder / "image.png", folder / "weights.safetensors"
        process([sys.executable, "-c", WEIGHTS, str(weights)], os.environ)
        process([sys.executable, "-c", PAINT, str(image), str(side)], os.environ)
        began = time.perf_counter()
        command = [sys.executable, "-m", "pipeline.cli", "predict", str(image), "--weights", str(weights)]
        peak = process([*command, "--stride", *[str(options.stride)] * 2, "-o", str(folder / "out")], os.environ) * 1024
        mask = cv2.imread(str(next((folder / "out").rglob("*.png"))), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        assert mask.shape[:2] == (side, side), f"a mask of {mask.shape}"
    print(
        f"{side} x {side}: peak memory {peak / 1e9:.2f} GB (goal {GOAL / 1e9:.0f} GB "
        f"{'reached' if peak <= GOAL else 'MISSED'}), {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
