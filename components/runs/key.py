"""Compute a run's key from everything that its weights depend on."""

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
"""Increase it when a code change alters the weights that a recipe yields, or when a setting's default changes, so that
earlier runs are not mistaken for new ones."""
# Settings that change the time or memory a run needs, but neither its weights nor its scores.
_WITHOUT_EFFECT: dict[str, Any] = {
    "summary": True,
    "evaluation": {"batch": True},
    "training": {"loader_workers": True, "recovery_seconds": True, "recovery_steps": True},
}

DIGITS = 12
"""Hexadecimal digits at the end of a run key. They alone identify the run."""
_LONGEST_NAME = 40
"""Maximum length of a dataset's name in a key. Recipe names are not cut, so that keys of version 0.1 still match."""


def run_key(
    recipe: Recipe, dataset_name: str, dataset_digest: str, fingerprint: str, ratio: Fraction, seed: int
) -> str:
    """Return `<dataset>-<recipe>-1-8-s<seed>-<12 hex>`, with `again-` in front if the run repeats another one.

    The same settings on the same split give the same key on any machine and with any number of processes.

    Args:
        dataset_name: empty gives the key of version 0.1, which leaves it out.
        fingerprint: the split's.
    """
    names = ["again"] if recipe.reproduces else []
    names += [_name(dataset_name[:_LONGEST_NAME]) or "dataset"] if dataset_name else []
    names += [_name(recipe.name) or "recipe", ratio_text(ratio).replace("/", "-"), f"s{seed}"]
    return "-".join([*names, _digest(recipe, dataset_digest, fingerprint, seed)])


def without_effect() -> set[str]:
    """Return the dotted names of the settings that are not part of a run's key."""
    groups = {name: inner for name, inner in _WITHOUT_EFFECT.items() if inner is not True}
    return {*_WITHOUT_EFFECT.keys() - groups, *(f"{group}.{name}" for group in groups for name in groups[group])}


def same_work(one: str, other: str) -> bool:
    """Return whether two run keys stand for the same weights, whatever the names in them."""
    return one[-DIGITS:] == other[-DIGITS:]


def find_key(given: str, known: Collection[str], what: str) -> str:
    """Return the run key that starts with `given`, or the only one that has it after the dataset's name.

    Args:
        what: describes the keys in the error, such as "run in s3://cps/runs/".

    Raises:
        UserError: no key matches, or several do.
    """
    behind = [key for key in known if f"-{given}" in key and not key.startswith("again-")]
    if not behind or any(key.startswith(given) for key in known):
        return find_one(given, known, what)
    if len(behind) > 1:
        raise UserError(f"{given!r} matches several: {', '.join(behind[:5])}; give more characters")
    return behind[0]


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")


def _digest(recipe: Recipe, dataset_digest: str, fingerprint: str, seed: int) -> str:
    # Defaults are left out, so that adding a setting does not change the keys of existing runs.
    settings = recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT, exclude_defaults=True)
    if recipe.network.pretrained_sha256:
        # The digest identifies the weights, so their path does not matter.
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
