"""How many images the loader prepares for a GPU on one core: 800 x 800 crops of 2048 x 1024 PNGs, none of them cached.

python -m tests.benchmarks.bench_loader_rate [--batches 6]

Each batch of the Cityscapes recipe has 24 images, 8 of them with labels. Prints images a second by the clock, with as
many threads as cores, and by the processor time of this process, which a busy machine affects less.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from components.networks.processor import usable_cores
from components.training.batches.data import Share, TrainingData, ahead
from components.training.gpu_check.sizes import SIZES
from components.training.gpu_check.streets import StreetReader, draw_files


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, default=6)
    count = parser.parse_args().batches
    size, cores = SIZES["gpu"], usable_cores()
    recipe = size.recipe()
    with tempfile.TemporaryDirectory() as name:
        draw_files(Path(name), size.images, size.image)
        encoded = [path.stat().st_size for path in Path(name).glob("*.png") if "label" not in path.name]
        reader = StreetReader(Path(name))
        data = TrainingData(reader, reader.split(), recipe, 0, Share(), for_gpu=True)
        data.batch(0)
        began, spent = time.monotonic(), time.process_time()
        for _ in ahead(data.batch, 1, count + 1, workers=cores, depth=2 * cores):
            pass
        seconds, spent = time.monotonic() - began, time.process_time() - spent
    images = 3 * recipe.training.batch_size * count
    print(
        f"{images} images, PNGs of {sum(encoded) / len(encoded) / 1e6:.1f} MB; {cores} cores, "
        f"load {os.getloadavg()[0]:.1f}\n"
        f"by the clock: {images / seconds:.1f} images/s, {images / seconds / cores:.1f} for each core\n"
        f"by processor time: {images / spent:.1f} images/s on a core, {1000 * spent / images:.0f} ms an image"
    )


if __name__ == "__main__":
    main()
