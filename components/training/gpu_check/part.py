"""Run one part of the check in this process: `part.py NAME DEVICE FOLDER`. Leaves NAME.json, or an error in it.

Each part has its own process, because TF32 is chosen when CUDA starts, and because one that runs out of memory must not
affect the others. The folder `pictures` below FOLDER has the images.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.contract import Frozen
    from components.training.gpu_check.table import (
        DeviceFacts,
        FirstLoss,
        ScoredFacts,
        SharedFacts,
        SweepFacts,
        TrainingFacts,
    )

ERROR = "error"
PRECISIONS = {"float32": "float32", "TF32": "float32", "bfloat16": "bfloat16"}
"""Names of the trainings, and their recipe's `training.precision`."""


@dataclass(frozen=True)
class Place:
    """Where a part computes, and its files."""

    device: str
    folder: Path

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def scored(self) -> Path:
        return self.folder / "scored"


def main() -> None:
    # This file is run by path, because the project may be on the parent's path only.
    sys.path[0] = str(Path(__file__).parents[3])
    from components.errors import UserError, WorkFailed, one_line
    from components.networks import device, processor
    from components.step_guard import die_with_parent

    name, place = sys.argv[1], Place(sys.argv[2], Path(sys.argv[3]))
    die_with_parent()
    ranks = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))
    device.prepare_kernels(tf32=name == "TF32")
    processor.prepare_training(processes=ranks)
    try:
        facts, fault = _parts()[name](place), ""
    except (UserError, WorkFailed) as error:
        facts, fault = None, one_line(error)
    except Exception as error:  # any fault is a line of the table; the traceback follows it
        traceback.print_exc()
        facts, fault = None, f"{type(error).__name__}: {one_line(error)[-300:]}"
    if os.environ.get("PADDLE_TRAINER_ID", "0") == "0":
        text = json.dumps({ERROR: fault} if fault else {}) if facts is None else facts.model_dump_json()
        (place.folder / f"{name}.json").write_text(text)
    if fault:
        sys.exit(1)


def _parts() -> "dict[str, Callable[[Place], Frozen | None]]":
    trainings = {name: lambda place, name=name: _training(place, name) for name in PRECISIONS}
    return {
        "pictures": _pictures,
        "device": _device,
        "reference": _reference,
        **trainings,
        "shared": _shared,
        "alone": _alone,
        "scored": _scored,
        "compared": _compared,
    }


def _pictures(place: Place) -> None:
    from components.training.gpu_check.sizes import SIZES
    from components.training.gpu_check.streets import draw_files

    size = SIZES[place.device]
    for folder, count, pixels in (
        (place.pictures, size.images, size.image),
        (place.scored, size.scored, size.scored_image),
    ):
        folder.mkdir()
        draw_files(folder, count, pixels)


def _device(place: Place) -> "DeviceFacts":
    from components.training.gpu_check.measure import device_facts

    return device_facts(place.device)


def _reference(place: Place) -> "FirstLoss":
    """Compute the first loss on the CPU: the parent hides the GPUs."""
    from components.training.gpu_check.measure import first_loss
    from components.training.gpu_check.sizes import SIZES
    from components.training.gpu_check.table import FirstLoss

    return FirstLoss(loss=first_loss(SIZES[place.device], place.pictures))


def _training(place: Place, name: str) -> "TrainingFacts":
    from components.networks.device import set_tf32
    from components.training.gpu_check import measure
    from components.training.gpu_check.sizes import SIZES

    if place.device == "cpu":
        measure.take_gpu_paths()
    else:
        set_tf32(name == "TF32")
    return measure.training_facts(SIZES[place.device], place.pictures, PRECISIONS[name])


def _shared(place: Place) -> None:
    """Train one step in each of two processes."""
    import numpy as np

    from components.training.gpu_check.measure import shared_step
    from components.training.gpu_check.sizes import SIZES

    found = shared_step(SIZES[place.device], place.pictures)
    if os.environ["PADDLE_TRAINER_ID"] == "0":
        np.savez(place.folder / "shared.npz", allow_pickle=False, **found)


def _alone(place: Place) -> "SharedFacts":
    import numpy as np

    from components.training.gpu_check.measure import shared_facts, shared_step
    from components.training.gpu_check.sizes import SIZES

    expected = shared_step(SIZES[place.device], place.pictures)
    return shared_facts(dict(np.load(place.folder / "shared.npz")), expected)


def _scored(place: Place) -> "ScoredFacts":
    import numpy as np

    from components.training.gpu_check.measure import swept, write_checkpoints
    from components.training.gpu_check.sizes import SIZES
    from components.training.gpu_check.table import ScoredFacts

    size = SIZES[place.device]
    write_checkpoints(size, place.folder, place.pictures)
    seconds, found = swept(size, place.folder, place.scored, on_device=True)
    np.savez(place.folder / "scored.npz", allow_pickle=False, **found)
    return ScoredFacts(seconds=seconds)


def _compared(place: Place) -> "SweepFacts":
    """Score on the CPU: the parent hides the GPUs."""
    import numpy as np

    from components.training.gpu_check.measure import sweep_facts, swept
    from components.training.gpu_check.sizes import SIZES

    seconds, expected = swept(SIZES[place.device], place.folder, place.scored, on_device=False)
    on_device = json.loads((place.folder / "scored.json").read_text())["seconds"]
    return sweep_facts(dict(np.load(place.folder / "scored.npz")), expected, (on_device, seconds))


if __name__ == "__main__":
    main()
