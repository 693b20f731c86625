"""Is it better to label what `cps label-next` suggests than images at random? On CamVid, by whole runs.

    python -m tests.benchmarks.label_next_camvid OUTPUT.csv [SEED …]

For each seed: 23 random images are labelled (1/16), a first run trains on them and suggests 23 more; then two runs
train on 46 each, the 23 and the suggested ones, or the 23 and 23 more at random. Both have the same seed, so the same
initial networks, and as many steps. The figure is the val mIoU of the last checkpoint with both networks averaged:
nothing is chosen on the images that are scored.

All runs are supervised (cps.weight=0). The two networks of a run then differ by their initialisation alone, and their
disagreement is that of a committee; it halves the time. CPS_TEST_DATA names the folder that has camvid/,
CPS_TEST_WEIGHTS the one that has mobilenetv2_imagenet.npz. Finished runs are found again.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

FIRST, MORE = 23, 23
COLUMNS = ("seed", "arm", "labelled_images", "steps", "mIoU", "best_mIoU", "run_key")


def main(output: Path, seeds: list[int]) -> None:
    home = Path(os.environ.get("CPS_HOME", ".cps")).absolute().parent
    rows = []
    for seed in seeds:
        lines = (camvid() / "train.txt").read_text().split("\n")
        order = [lines[place] for place in np.random.default_rng([seed, 2026]).permutation(367)]
        lists = {"1_16": order[:FIRST], "1_8": order[: FIRST + MORE]}
        data = dataset(home / f"camvid-{seed}-random", lists)
        first = run(data, "1/16", seed)
        rows.append(row(seed, "first", first))
        folder = home / f"suggested-{seed}"
        cps("label-next", first["run_key"], "-n", str(MORE), "-o", str(folder))
        chosen = (folder / "labeled.txt").read_text().splitlines()
        assert {line.split()[0] for line in order[:FIRST]} < {line.split()[0] for line in chosen}
        suggested = dataset(home / f"camvid-{seed}-suggested", {"1_8": chosen})
        for arm, place in (("suggested", suggested), ("random", data)):
            rows.append(row(seed, arm, run(place, "1/8", seed)))
            write(output, rows)


def camvid() -> Path:
    return Path(os.environ["CPS_TEST_DATA"]).absolute() / "camvid"


def dataset(folder: Path, lists: dict[str, list[str]]) -> Path:
    """CamVid with lists of its own for some ratios."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("images", "labels", "train.txt", "val.txt", "classes.json"):
        if not (folder / name).exists():
            (folder / name).symlink_to(camvid() / name)
    for ratio, lines in lists.items():
        (folder / ratio).mkdir(exist_ok=True)
        (folder / ratio / "labeled.txt").write_text("\n".join(lines) + "\n")
    return folder


def run(data: Path, ratio: str, seed: int) -> dict[str, Any]:
    """A finished run's result.json."""
    weights = Path(os.environ["CPS_TEST_WEIGHTS"]).absolute() / "mobilenetv2_imagenet.npz"
    settings = [f"network.pretrained={weights}", "cps.weight=0", "training.checkpoints=1", "training.epochs=2"]
    options = [part for setting in settings for part in ("--set", setting)]
    told = cps(
        *("run", "--dataset", str(data), "--recipe", "camvid-mobilenetv2", "--ratio", ratio, "--seed", str(seed)),
        *("--predict-limit", "1", "--json", *options),
    )
    return dict(json.loads(told))


def cps(*arguments: str) -> str:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def row(seed: int, arm: str, result: dict[str, Any]) -> dict[str, object]:
    last = result["checkpoints"][-1]
    return {
        "seed": seed,
        "arm": arm,
        "labelled_images": FIRST if arm == "first" else FIRST + MORE,
        "steps": last["step"],
        "mIoU": f"{last['ensemble']:.4f}",
        "best_mIoU": f"{result['best']['mIoU']:.4f}",
        "run_key": result["run_key"],
    }


def write(output: Path, rows: list[dict[str, object]]) -> None:
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]] or [1, 2, 3])
