"""The loss curve of 20 steps is the one on record: what changes it changes every training.

After a deliberate change: raise METHOD_VERSION in components/runs/record.py, and record the new curve with
`python tests/components/training/test_golden.py`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.training import cps
from components.training.losses import Criterion
from components.training.schedule import cps_weight, learning_rate
from tests.components.training.small_training import CLASSES, make_batch, make_pair, make_recipe

GOLDEN = Path(__file__).parents[2] / "golden" / "cps-20-steps.json"
STEPS = 20
RECIPES: dict[str, dict[str, Any]] = {
    "adamw, ema, ramp-up": {"cps__ramp_up": 0.5},
    "sgd, ohem, as in the paper": {
        "optimization__optimizer": "sgd",
        "optimization__ema": 0.0,
        "loss__kind": "ohem",
        "cps__weight": 1.5,
        "cps__ramp_up": 0.0,
    },
}


def curve(settings: dict[str, Any]) -> list[list[float]]:
    """Total, supervised and cross loss of each step."""
    recipe = make_recipe(**settings)
    pair, criterion = make_pair(recipe), Criterion(recipe.loss, 255, min_kept=500)
    losses = []
    for step in range(STEPS):
        found = cps.step(
            pair,
            make_batch(step),
            criterion,
            weight=cps_weight(recipe, step, STEPS),
            learning_rate=learning_rate(recipe, step, STEPS),
            number=step,
        )
        losses.append([round(value, 6) for value in (found.total, found.supervised, found.cross)])
    return losses


@pytest.mark.parametrize("name", RECIPES)
def test_loss_curve_is_the_one_on_record(name):
    recorded = json.loads(GOLDEN.read_text())[name]
    np.testing.assert_allclose(np.asarray(curve(RECIPES[name])), recorded, rtol=1e-3)


if __name__ == "__main__":
    assert CLASSES == 4
    GOLDEN.write_text(json.dumps({name: curve(settings) for name, settings in RECIPES.items()}, indent=1) + "\n")
