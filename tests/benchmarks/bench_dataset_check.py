"""How fast a dataset is checked, against only decoding its files on all cores.

    python -m tests.benchmarks.bench_dataset_check [--images 64] [--distinct 64] [--rounds 5]

Makes Cityscapes-sized pairs (2048x1024 PNG, photographs of about 2.4 MB with a noise as cameras have it), then in each
round decodes them with Pillow, decodes them with OpenCV, and checks them, in changing order. Every one uses a thread
for each core and one more. Of `--images 3000` only `--distinct 300` need be made: the others are links to them, which
are read, decoded and compared like any other.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from components.dataset.check.inspect import inspect_dataset
from components.dataset.layouts import read_layout
from components.threads import in_threads

WIDTH, HEIGHT = 2048, 1024


def make_pair(folder: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(30, 220, (32, 64, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
    noisy = smooth + rng.normal(0, 1.2, smooth.shape).astype(np.float32)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.png")
    ids = Image.fromarray(rng.integers(0, 19, (16, 32), dtype=np.uint8))
    ids.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST).rotate(7, fillcolor=255).save(
        folder / f"{number:04d}-ids.png"
    )


def make_dataset(folder: Path, images: int, distinct: int) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda number: make_pair(folder, number), range(distinct)))
    for number in range(distinct, images):
        for ending in (".png", "-ids.png"):
            (folder / f"{number:04d}{ending}").hardlink_to(folder / f"{number % distinct:04d}{ending}")
    lines = [f"{number:04d}.png {number:04d}-ids.png\n" for number in range(images)]
    val = max(1, images // 6)
    (folder / "train.txt").write_text("".join(lines[val:]))
    (folder / "val.txt").write_text("".join(lines[:val]))
    names = ", ".join(f'{{"id": {number}, "name": "class {number}"}}' for number in range(19))
    (folder / "classes.json").write_text(f'{{"classes": [{names}]}}')


def decode_with_pillow(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def decode_with_opencv(path: Path) -> None:
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of all cores together; the second does not count what other processes take."""
    began, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - busy


def spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--distinct", type=int, default=64, help="pictures that are made")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_dataset(folder, options.images, min(options.images, options.distinct))
        paths = sorted(folder.glob("*.png"))
        layout = read_layout(folder)
        works: dict[str, Callable[[], object]] = {
            "decode, Pillow": lambda: list(in_threads(decode_with_pillow, paths)),
            "decode, OpenCV": lambda: list(in_threads(decode_with_opencv, paths)),
            "dataset check": lambda: inspect_dataset(layout),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for number in range(-1, options.rounds):  # the first round only warms up
            names = list(works)[number % 3 :] + list(works)[: number % 3]
            for name in names:
                duration = seconds(works[name])
                if number >= 0:
                    taken[name].append(duration)
        size = sum(path.stat().st_size for path in paths) / 1e6
    print(f"{options.images} images of {WIDTH}x{HEIGHT} with their labels, {size:.0f} MB; {os.cpu_count()} cores; "
          f"{options.rounds} rounds, median (min–max)")  # fmt: skip
    print(f"{'':<16}{'images/s':<20}{'check reaches of it, %':<26}{'ms of CPU/image':<20}of the check's CPU, %")
    for name, pairs in taken.items():
        rates = [options.images / clock for clock, _ in pairs]
        busy = [1000 * cpu / options.images for _, cpu in pairs]
        shares = [
            [100 * own[k] / check[k] for own, check in zip(pairs, taken["dataset check"], strict=True)] for k in (0, 1)
        ]
        print(f"{name:<16}{spread(rates, 1):<20}{spread(shares[0], 1):<26}{spread(busy, 1):<20}{spread(shares[1], 1)}")


if __name__ == "__main__":
    main()
