"""The key of a run, made of what its weights depend on."""

import hashlib
import re
from collections.abc import Collection
from fractions import Fraction
from typing import Any

from components.contract import canonical_json
from components.errors import UserError, find_one
from components.labeled_ratio import ratio_text
from components.recipes.model import Recipe

METHOD_VERSION = 1
"""Raised by hand when the code changes what weights a recipe gives, or a setting's default: old runs are then not taken
for new."""
# What changes the time or the memory a run needs, and not its weights or scores.
_WITHOUT_EFFECT: dict[str, Any] = {
    "summary": True,
    "evaluation": {"batch": True},
    "training": {"recovery_steps": True},
}


DIGITS = 12
"""Hexadecimal digits at the end of a run key. They alone identify the work."""
_LONGEST_NAME = 40


def run_key(
    recipe: Recipe, dataset_name: str, dataset_digest: str, fingerprint: str, ratio: Fraction, seed: int
) -> str:
    """Return `<dataset>-<recipe>-1-8-s<seed>-<12 hex>`, with `again-` in front if the run repeats another one.

    It is equal for equal work, on any machine, with any number of processes.

    Args:
        dataset_name: empty gives the key of version 0.1, which leaves it out.
        fingerprint: of the split.
    """
    names = ["again"] if recipe.reproduces else []
    names += [_name(dataset_name) or "dataset"] if dataset_name else []
    names += [_name(recipe.name) or "recipe", ratio_text(ratio).replace("/", "-"), f"s{seed}"]
    return "-".join([*names, _digest(recipe, dataset_digest, fingerprint, seed)])


def same_work(one: str, other: str) -> bool:
    """Return whether two run keys stand for the same work."""
    return one[-DIGITS:] == other[-DIGITS:]


def find_key(given: str, known: Collection[str], what: str) -> str:
    """Return the run key that starts with `given`, or the only one with it behind the dataset's name.

    Args:
        what: a key stands for, such as "run in s3://cps/runs/".

    Raises:
        UserError: no key matches, or several do.
    """
    behind = [key for key in known if f"-{given}" in key and not key.startswith("again-")]
    if not behind or any(key.startswith(given) for key in known):
        return find_one(given, known, what)
    if len(behind) > 1:
        raise UserError(f"{given!r} may be any of {', '.join(behind[:5])}: write more of it")
    return behind[0]


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text)[:_LONGEST_NAME].strip("-.")


def _digest(recipe: Recipe, dataset_digest: str, fingerprint: str, seed: int) -> str:
    # Without defaults: runs from before there was some setting are the same runs as those that leave it alone.
    settings = recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT, exclude_defaults=True)
    if recipe.network.pretrained_sha256:
        # The digest says which weights these are; where they lie does not matter.
        settings["network"].pop("pretrained", None)
    if recipe.network.right_pretrained_sha256:
        settings["network"].pop("right_pretrained", None)
    parts = {
        "dataset": dataset_digest,
        "split": fingerprint,
        "recipe": settings,
        "seed": seed,
        "method": METHOD_VERSION,
    }
    return hashlib.sha256(canonical_json(parts)).hexdigest()[:DIGITS]
