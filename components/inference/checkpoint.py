"""A checkpoint ready to run: its engines, and what its metadata says of it."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from components.errors import UserError, WorkFailed
from components.inference.engine import Engine, PaddleEngine
from components.inference.sliding import Size
from components.networks import processor


class PaintedClass(NamedTuple):
    """A class, and how its pixels are painted: red, green, blue, 0-255."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Description:
    """The metadata of a weights file."""

    structure: str
    """Of both networks, or `left and right` where they differ."""
    classes: tuple[PaintedClass, ...]
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
        classes = tuple(PaintedClass(item["name"], tuple(item["color"])) for item in json.loads(meta[key]))
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


def open_checkpoint(path: Path, *, threads: int = 1) -> Checkpoint:
    """Build and load the networks of a weights file. Raises UserError for what is not one of ours.

    `threads` is how many will call the engines at once; Paddle's own threads share the cores that are left.
    """
    if "paddle" not in sys.modules:
        processor.prepare(networks=threads)
    from components.networks.weights import read_networks

    networks = read_networks(path)
    engines: dict[str, Engine] = {branch: PaddleEngine(layer) for branch, layer in networks.layers.items()}
    return Checkpoint(engines, read_description(networks.meta, str(path)))


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


def check_digest(path: Path, sha256: str) -> None:
    """Raises UserError where the file's sha256 is another one."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error.strerror}") from None
    if found != sha256.lower():
        raise UserError(f"weights {path} have sha256 {found}, not {sha256}: pull them again")
