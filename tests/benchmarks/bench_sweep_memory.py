"""Peak memory of scoring and selecting with many classes and images, without the networks.

python -m tests.benchmarks.bench_sweep_memory [--classes 150] [--images 5000] [--checkpoints 40]

Counts random predictions as the sweep does, packs and reads the scores, and chooses the best checkpoint. Prints how far
the process's memory rises above the imports, beside the size of a confusion matrix for each image, variant and
checkpoint.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from components.evaluation.scores import Counts, Protocol, Scores, pack, unpack
from components.evaluation.verdict import decide
from components.metrics.boundary import boundary_counts
from components.metrics.confusion import confusion_matrix
from components.runs.result import VARIANTS
from components.units import memory_text

SIZE = 64, 64
"""Of an image; the counts' memory does not depend on it."""


def peak_bytes() -> int:
    """Return the largest resident size so far."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def counted(images: int, classes: int) -> bytes:
    """Return the packed scores of one checkpoint, whose predictions are right for two pixels in three."""
    random = np.random.default_rng(0)
    counts = {variant: Counts.zeros(images, classes) for variant in VARIANTS}
    for number in range(images):
        shown = random.integers(0, classes, 12)
        label = random.choice(shown, SIZE).astype(np.uint8)
        for variant in VARIANTS:
            guesses = random.choice(shown, SIZE).astype(np.uint8)
            prediction = np.where(random.random(SIZE) < 2 / 3, label, guesses)
            matrix, bands = confusion_matrix(label, prediction, classes), boundary_counts(label, prediction, classes)
            counts[variant].add(number, matrix, bands)
    protocol = Protocol("f" * 64, tuple(map(str, range(classes))), 255, (32, 32), (32, 32), "exact")
    return pack(Scores(0, 0, "c" * 64, protocol, tuple(f"images/{number}.jpg" for number in range(images)), counts))


def read(data: bytes, checkpoints: int) -> Iterator[Scores]:
    for epoch in range(checkpoints):
        scores = unpack(data, "scores")
        assert scores is not None
        yield replace(scores, epoch=epoch)
        del scores


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("classes", 150), ("images", 5000), ("checkpoints", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    matrices = 8 * given.classes**2 * given.images * len(VARIANTS) * given.checkpoints
    print(f"a matrix per image, variant and checkpoint: {memory_text(matrices)}", flush=True)
    before, began = peak_bytes(), time.monotonic()
    data = counted(given.images, given.classes)
    print(f"scoring a checkpoint: {memory_text(peak_bytes() - before)}, file {memory_text(len(data))}", flush=True)
    verdict = decide(read(data, given.checkpoints))
    print(f"scoring and selecting: {memory_text(peak_bytes() - before)}, {time.monotonic() - began:.0f} s", flush=True)
    print(f"mIoU {verdict.best.mean_iou:.4f}, {verdict.interval.low:.4f} to {verdict.interval.high:.4f}")


if __name__ == "__main__":
    main()
