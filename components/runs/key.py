"""The key of a run, made of what its weights depend on."""

import hashlib
import re
from fractions import Fraction
from typing import Any

from components.contract import canonical_json
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


def run_key(recipe: Recipe, dataset_digest: str, fingerprint: str, ratio: Fraction, seed: int) -> str:
    """`<recipe>-1-8-s<seed>-<12 hex>`: equal for equal work, on any machine, with any number of processes.

    It begins with `again-` where the run repeats another one.
    """
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
    digest = hashlib.sha256(canonical_json(parts)).hexdigest()
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", recipe.name).strip("-.") or "recipe"
    if recipe.reproduces:
        name = f"again-{name}"
    return f"{name}-{ratio_text(ratio).replace('/', '-')}-s{seed}-{digest[:12]}"
