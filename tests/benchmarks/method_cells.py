"""Which parts of the method give the gain? Whole runs on CamVid at half size with few labels, one on each core.

    python -m tests.benchmarks.method_cells OUTPUT.csv FRAMES CELL[,CELL…] SEED[,SEED…]

A cell is a name of CELLS: settings on top of COMMON. Runs of one seed share their labelled images, initial networks and
labelled batches. The figure is the mIoU of the last checkpoint with both networks averaged: nothing is chosen on the
images that are scored. FRAMES is one of:

    tuning    CamVid's training list alone: 55 of its frames are scored (0016E5_04 and 05), the others are trained on.
              Options are chosen on these.
    apart     CamVid's val list is scored; its streets are taken out of the training list.

Finished runs are found again, and a row that OUTPUT has is not measured again. The minutes are those of a run on a
single core, if nothing else runs on the machine. CPS_TEST_DATA names the folder that has camvid/.
"""

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

from components.api import checkpoint_figures
from pipeline import api

COMMON: dict[str, Any] = {
    "augmentation.crop": [96, 128],
    "augmentation.scales": [0.25, 0.625],
    "evaluation.crop": [192, 256],
    "evaluation.stride": [192, 256],
    "evaluation.scales": [0.5],
    "cps.burn_in": 0.0,
    "cps.ramp_up": 0.3,
    "cps.strong_augmentation": 0.0,
    "cps.rare_class_paste": 0.0,
    "cps.teacher": "network",
    "training.epochs": 20,
    "training.checkpoints": 4,
    "training.checkpoint_span": 0.8,
}
"""Half size, at which four times as many steps take as long."""
FULL_SIZE: dict[str, Any] = {
    "augmentation.crop": [192, 256],
    "augmentation.scales": [0.5, 1.25],
    "evaluation.crop": [360, 480],
    "evaluation.stride": [360, 480],
    "evaluation.scales": [1.0],
    "cps.burn_in": 0.6,
    "cps.ramp_up": 0.2,
    "training.epochs": 6,
}
"""What the recipe `auto` chose for these frames before it had options of the method and wider scales."""
RATIO = "1/32"
STRONG = {"cps.strong_augmentation": 0.8}
FULL_SIZE_FROM_THE_START: dict[str, Any] = {
    **FULL_SIZE,
    **STRONG,
    "cps.teacher": "average",
    "cps.burn_in": 0.0,
    "cps.ramp_up": 0.3,
}
CELLS: dict[str, dict[str, Any]] = {
    "supervised": {"cps.weight": 0.0},
    "cps": {},
    "teacher": {"cps.teacher": "average"},
    "strong": STRONG,
    "strong+teacher": {**STRONG, "cps.teacher": "average"},
    "strong+eval-teacher": {**STRONG, "cps.teacher": "average_eval"},
    "strong+eval-teacher+paste": {**STRONG, "cps.teacher": "average_eval", "cps.rare_class_paste": 0.5},
    "strong+eval-teacher+burn-in": {
        **STRONG,
        "cps.teacher": "average_eval",
        "cps.burn_in": 0.3,
        "cps.ramp_up": 0.2,
    },
    "strong+eval-teacher+operations+adaptive": {
        **STRONG,
        "cps.teacher": "average_eval",
        "cps.strong_operations": 3,
        "cps.adaptive_cutmix": True,
    },
    "full-size": FULL_SIZE,
    "full-size-supervised": {**FULL_SIZE, "cps.weight": 0.0},
    "full-size+strong+teacher": FULL_SIZE_FROM_THE_START,
    "full-size+strong+teacher+longer": {**FULL_SIZE_FROM_THE_START, "training.epochs": 10},
    "full-size-supervised+longer": {**FULL_SIZE, "cps.weight": 0.0, "training.epochs": 10},
    "full-size+strong+teacher+paste": {**FULL_SIZE_FROM_THE_START, "cps.rare_class_paste": 0.5},
    "full-size+strong+teacher+paste-all+feature-dropout": {
        **FULL_SIZE_FROM_THE_START,
        "cps.rare_class_paste": 1.0,
        "cps.feature_dropout": 0.5,
    },
    "full-size+strong+teacher+operations+adaptive": {
        **FULL_SIZE_FROM_THE_START,
        "cps.strong_operations": 3,
        "cps.adaptive_cutmix": True,
    },
}


@dataclass(frozen=True)
class Row:
    frames: str
    cell: str
    seed: int
    steps: int
    mIoU: float
    earlier: str
    """mIoU of the checkpoints before the last one, by step."""
    minutes: float
    run_key: str


def main(output: Path, frames: str, cells: list[str], seeds: list[int]) -> None:
    api.connect()
    folder = camvid_frames(frames)
    measured = list(read(output))
    done = {(row["frames"], row["cell"], row["seed"]) for row in measured}
    wanted = [(cell, seed) for cell in cells for seed in seeds if (frames, cell, str(seed)) not in done]
    cores, lock = SimpleQueue[int](), Lock()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)

    def measure(case: tuple[str, int]) -> None:
        core = cores.get()
        try:
            row = run(folder, frames, *case, core)
        finally:
            cores.put(core)
        with lock:
            measured.append({name: str(value) for name, value in asdict(row).items()})
            write(output, measured)
            print(row, flush=True)

    with ThreadPoolExecutor(cores.qsize()) as pool:
        list(pool.map(measure, wanted))


def camvid_frames(frames: str) -> Path:
    """Return a dataset of the frames, made of links beside the runs."""
    source = Path(os.environ["CPS_TEST_DATA"]).absolute() / "camvid"
    listed = {part: (source / f"{part}.txt").read_text().splitlines(keepends=True) for part in ("train", "val")}
    apart = [line for line in listed["train"] if not re.search("0016E5_0[78]", line)]
    held = [line for line in apart if re.search("0016E5_0[45]", line)]
    train, val = {
        "tuning": ([line for line in apart if line not in held], held),
        "apart": (apart, listed["val"]),
    }[frames]
    folder = Path(os.environ.get("CPS_HOME", ".cps")).absolute().parent / f"camvid-{frames}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("classes.json", *(name for line in (*train, *val) for name in line.split())):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            (folder / name).symlink_to(source / name)
    (folder / "train.txt").write_text("".join(train))
    (folder / "val.txt").write_text("".join(val))
    return folder


def run(folder: Path, frames: str, cell: str, seed: int, core: int) -> Row:
    settings = {**COMMON, **CELLS[cell]}
    given = [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    command = ["taskset", "-c", str(core), sys.executable, "-m", "pipeline.cli", "run", "-q", "--json"]
    command += ["--dataset", str(folder), "--recipe", "photos", "--ratio", RATIO, "--seed", str(seed)]
    began = time.monotonic()
    done = subprocess.run([*command, *given], stdout=subprocess.PIPE, text=True, check=True)
    run_key = json.loads(done.stdout)["run_key"]
    *earlier, last = checkpoint_figures(run_key)
    return Row(
        frames=frames,
        cell=cell,
        seed=seed,
        steps=int(last["step"] or 0),
        mIoU=round(float(last["ensemble"] or 0), 4),
        earlier=" ".join(f"{figures['step']}:{float(figures['ensemble'] or 0):.4f}" for figures in earlier),
        minutes=round((time.monotonic() - began) / 60, 1),
        run_key=run_key,
    )


def read(output: Path) -> Iterator[dict[str, str]]:
    if output.exists():
        with output.open(newline="") as file:
            yield from csv.DictReader(file)


def write(output: Path, rows: list[dict[str, str]]) -> None:
    with output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), [int(seed) for seed in sys.argv[4].split(",")])
