"""A checkpoint ready to run: its engines, and what its metadata says of it."""

import json
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
    """Of both networks, or `left and right` where they differ."""
    classes: tuple[Class, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: Size
    stride: Size
    run_key: str
    split: str
    """The fingerprint of the split that it was trained on."""
    epoch: int
    step: int


@dataclass(frozen=True)
class Checkpoint:
    """Networks by branch: `left` and `right`, or `only`."""

    engines: dict[str, Engine]
    description: Description


def read_description(meta: Mapping[str, str], origin: str) -> Description:
    """Parse a weights file's metadata. Raises UserError that names `origin` and the key."""
    key = ""
    try:
        key = "classes"
        classes = tuple(Class(name=item["name"], color=tuple(item["color"])) for item in json.loads(meta[key]))
        key = "num_classes"
        if int(meta[key]) != len(classes):
            raise ValueError(f"{meta[key]} does not agree with {len(classes)} classes")
        values = {}
        for key in ("mean", "std", "crop", "stride"):
            values[key] = tuple(json.loads(meta[key]))
        key = "epoch"
        epoch, step = int(meta.get("epoch", "0")), int(meta.get("step", "0"))
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
    )


def open_checkpoint(path: Path, *, threads: int = 1, engine: str = AUTO, allow_bf16: bool = False) -> Checkpoint:
    """The networks of a weights file, ready to run.

    Args:
        threads: how many will call the engines at once; eager Paddle's own threads share the cores that are left.
        engine: one of ENGINES.
        allow_bf16: whether engines may round to bfloat16.

    Raises:
        UserError: a file that is none of ours, or an engine that cannot be used here.
        WorkFailed: the engine asked for cannot run this structure.
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
    """Refuse weights that were trained on another split or for other classes: their scores would mean
    nothing.

    Raises WorkFailed that names `origin` and what differs.
    """
    if len(description.classes) != classes:
        raise WorkFailed(
            f"{origin} is for {len(description.classes)} classes, the dataset has {classes}: "
            "it belongs to another dataset and is not scored"
        )
    if description.split != split:
        raise WorkFailed(
            f"{origin} was trained on split {description.split[:12] or '(none)'}, this run's is {split[:12]}: "
            "it belongs to another run and is not scored"
        )
