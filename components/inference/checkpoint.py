"""A checkpoint ready to run: its engines and its metadata."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.contract import Class
from components.errors import UserError, WorkFailed
from components.inference.engine import AUTO, Engine, choose, open_engines
from components.inference.paddle_engine import PADDLE, Weights
from components.inference.sliding import Size
from components.networks import processor


@dataclass(frozen=True)
class Description:
    """The metadata of a weights file."""

    structure: str
    """The networks' architecture; `LEFT and RIGHT` if they differ."""
    classes: tuple[Class, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: Size
    stride: Size
    run_key: str
    split: str
    """Fingerprint of the training split."""
    epoch: int
    step: int
    longest_side: int = 0
    """Number of pixels along the longer side to which larger images are reduced; 0 keeps their size."""


@dataclass(frozen=True)
class Checkpoint:
    """Networks by branch: `left` and `right`, or `only`."""

    engines: dict[str, Engine]
    description: Description


def read_description(meta: Mapping[str, str], origin: str) -> Description:
    """Parse a weights file's metadata. Raises UserError, which names `origin` and the key."""
    key = ""
    try:
        key = "classes"
        classes = tuple(Class(name=item["name"], color=tuple(item["color"])) for item in json.loads(meta[key]))
        key = "num_classes"
        if int(meta[key]) != len(classes):
            raise ValueError(f"{meta[key]}, but classes has {len(classes)} entries")
        values = {}
        for key, count, above in (("mean", 3, -math.inf), ("std", 3, 0), ("crop", 2, 0), ("stride", 2, 0)):
            values[key] = tuple(json.loads(meta[key]))
            if len(values[key]) != count or not all(number > above for number in values[key]):
                raise ValueError(f"{meta[key]}, but must be {count} {'' if key == 'mean' else 'positive '}numbers")
        key = "epoch"
        epoch, step = int(meta.get("epoch", "0")), int(meta.get("step", "0"))
        key = "longest_side"
        longest_side = int(meta.get(key, "0"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"weights {origin}: metadata {key!r} is missing or malformed ({error})") from None
    return Description(
        structure=" and ".join(filter(None, (meta.get("structure", ""), meta.get("right_structure", "")))),
        classes=classes,
        mean=values["mean"],
        std=values["std"],
        crop=values["crop"],
        stride=values["stride"],
        run_key=meta.get("run_key", ""),
        split=meta.get("split", ""),
        epoch=epoch,
        step=step,
        longest_side=longest_side,
    )


def open_checkpoint(path: Path, *, threads: int = 1, engine: str = AUTO, allow_bf16: bool = False) -> Checkpoint:
    """Load a weights file and open an engine for each network.

    Args:
        threads: number of threads that will call the engines; eager Paddle divides the cores among them.
        engine: one of ENGINES.
        allow_bf16: whether engines may round to bfloat16.

    Raises:
        UserError: the file is not a weights file of this project, or the engine is not available here.
        WorkFailed: the requested engine cannot run this structure.
    """
    from components.networks.weights import prefixes, read_file, structure_of

    chosen = choose(engine, allow_bf16=allow_bf16)
    arrays, meta = read_file(path)
    description = read_description(meta, str(path))
    if chosen == PADDLE and "paddle" not in sys.modules:
        processor.prepare(networks=threads)
    states = {
        branch: {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        for branch, prefix in prefixes(meta).items()
    }
    structures = {branch: structure_of(meta, branch) for branch in states}
    networks = Weights(structures, len(description.classes), states, str(path))
    return Checkpoint(open_engines(chosen, networks, or_paddle=engine == AUTO), description)


def check_belongs(description: Description, *, origin: str, split: str, classes: int) -> None:
    """Check that weights were trained on this split and these classes; otherwise their scores are meaningless.

    Raises WorkFailed, which names `origin` and the difference.
    """
    if len(description.classes) != classes:
        raise WorkFailed(
            f"{origin} has {len(description.classes)} classes, but the dataset has {classes}: "
            "it belongs to another dataset and cannot be scored"
        )
    if description.split != split:
        raise WorkFailed(
            f"{origin} was trained on split {description.split[:12] or '(none)'}, but this run has split {split[:12]}: "
            "it belongs to another run and cannot be scored"
        )
