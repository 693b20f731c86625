"""Checks of the pipeline parameters that no dataset or recipe decides: how the work is shared, what is predicted,
and what the pods are given."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from components.dataset.sources.address import check_source, parse_sources
from components.errors import UserError
from components.labeled_ratio import parse_ratio
from components.recipes import Recipe, load_recipe
from components.runs.backbone import pin_pretrained

MOST_PROCESSES = 1024
MOST_SHARDS = 256
IMAGE_SETS = ("val", "test", "unlabeled")

_QUANTITY = re.compile(r"(?:0*[1-9]\d*(?:\.\d+)?|0*\.0*[1-9]\d*|0+\.0*[1-9]\d*)(?:m|k|M|G|T|Ki|Mi|Gi|Ti)?")
"""What Kubernetes takes as an amount, as far as anybody writes it: 500m, 2, 1.5, 16Gi."""
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_QUALIFIED_NAME = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?{_LABEL}")
_TOLERATION = ("key", "operator", "value", "effect", "tolerationSeconds")
_MOST_SEEDS = 2**31
_OVERRIDES_EXAMPLE = 'write for example {"optimization.learning_rate": 0.01}'


def check_sharing(*, processes: int, eval_shards: int, gpus: int = 0, nodes: int = 1) -> None:
    """Raises UserError."""
    _check_count("processes", processes, 1, MOST_PROCESSES)
    _check_count("eval_shards", eval_shards, 1, MOST_SHARDS)
    _check_count("gpus", gpus, 0, MOST_PROCESSES)
    _check_count("nodes", nodes, 1, MOST_PROCESSES)
    if gpus and processes not in (1, gpus):
        raise UserError(f"gpus is {gpus} and processes {processes}: a GPU has one process; leave processes at 1")


def _check_count(name: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        raise UserError(f"{name} is {count}: give a whole number from {least} to {most}")


def check_prediction(*, images: str, limit: int, is_here: bool = True) -> None:
    """Raises UserError. Where the images are not read on this machine (`is_here`), no path of it will do."""
    known = images in IMAGE_SETS or images.startswith("s3://") or (is_here and set("*?[") & set(images))
    if not known and not (is_here and os.path.exists(images)):
        or_path = ", or a file or folder that exists" if is_here else ""
        raise UserError(f"predict_images is {images!r}: give {', '.join(IMAGE_SETS)}, an s3:// prefix{or_path}")
    if limit < 0:
        raise UserError(f"predict_limit is {limit}: give a whole number above 0, or 0 for all")


def check_pods(
    *, cpu: str, memory: str, accelerator: str, node_selector: Mapping[str, Any], tolerations: Sequence[Any]
) -> None:
    """What a pod that cannot be made would say hours later, when its turn comes. Raises UserError."""
    for name, amount, example in (("cpu", cpu, "2 or 500m"), ("memory", memory, "8Gi")):
        if not _QUANTITY.fullmatch(amount):
            raise UserError(f"{name} is {amount!r}: give an amount as Kubernetes writes it, such as {example}")
    if not _QUALIFIED_NAME.fullmatch(accelerator) or "/" not in accelerator:
        raise UserError(f"accelerator is {accelerator!r}: give a resource of the nodes, such as nvidia.com/gpu")
    for key, value in node_selector.items():
        if not _QUALIFIED_NAME.fullmatch(key) or not isinstance(value, str):
            raise UserError(f"node_selector has {key!r}: {value!r}; give labels of nodes, as text to text")
    for toleration in tolerations:
        if not isinstance(toleration, Mapping) or not toleration or set(toleration) - set(_TOLERATION):
            raise UserError(f"tolerations has {toleration!r}: give a list of objects with {', '.join(_TOLERATION)}")


@dataclass(frozen=True)
class Parameters:
    """A submission's parameters, parsed and found right as far as can be known before any work."""

    source: str
    """One source, or several; `components.dataset.sources.address` reads it."""
    sha256: str
    """Of the sources, or empty."""
    ratio: Fraction
    recipe: Recipe
    overrides: dict[str, Any]
    """By dotted name, epochs and batch size among them."""
    seed: int


def validate_parameters(
    *,
    source: str,
    labeled_ratio: str,
    recipe: str,
    sha256: str = "",
    overrides_json: str = "{}",
    seed: int = 0,
    epochs: int = 0,
    batch_size: int = 0,
    source_is_here: bool = True,
) -> Parameters:
    """Parse and check every parameter; nothing is read but the recipe and its backbone.

    Args:
        overrides_json: a JSON object of dotted names, e.g. {"optimization.learning_rate": 0.01}.
        epochs, batch_size: instead of the recipe's; 0 keeps the recipe's.
        source_is_here: a path must exist on this machine. False when another one is to read it.

    Raises:
        UserError: naming the parameter.
    """
    ratio = parse_ratio(labeled_ratio)
    if not 0 <= seed < _MOST_SEEDS:
        raise UserError(f"seed {seed} is not a whole number from 0 to {_MOST_SEEDS - 1}")
    overrides = _overrides(overrides_json, epochs, batch_size)
    for part in parse_sources(source, sha256):
        check_source(part.text, is_here=source_is_here)
    return Parameters(
        source=source,
        sha256=sha256.lower(),
        ratio=ratio,
        recipe=pin_pretrained(load_recipe(recipe, overrides), is_here=source_is_here),
        overrides=overrides,
        seed=seed,
    )


def _overrides(text: str, epochs: int, batch_size: int) -> dict[str, Any]:
    try:
        overrides = json.loads(text or "{}")
    except ValueError as error:
        raise UserError(f"overrides {text!r} are not JSON ({error}); {_OVERRIDES_EXAMPLE}") from None
    if not isinstance(overrides, dict):
        raise UserError(f"overrides {text!r} are not a JSON object; {_OVERRIDES_EXAMPLE}")
    for name, value, setting in (
        ("epochs", epochs, "training.epochs"),
        ("batch_size", batch_size, "training.batch_size"),
    ):
        if value < 0:
            raise UserError(f"{name} is {value}: give a whole number above 0, or 0 for the recipe's own")
        if value:
            overrides[setting] = value
    return overrides
