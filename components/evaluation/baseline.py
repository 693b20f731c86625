"""Compare a run with its supervised baseline, if the store has one.

A run's key follows from its settings, so the baseline's is known without asking MLflow, which may be away.
"""

from typing import TYPE_CHECKING

from components import progress
from components.errors import UserError, WorkFailed
from components.evaluation.comparison.difference import difference_of, scores_of
from components.evaluation.scores import Scores
from components.labeled_ratio import parse_ratio
from components.recipes.loader import parse_recipe
from components.runs.key import run_key
from components.runs.record import RunRecord
from components.runs.result import BaselineGain, RunResult, find_result

if TYPE_CHECKING:
    from components.storage.client import Store


def baseline_keys(record: RunRecord) -> tuple[str, ...]:
    """Return the keys that the supervised baseline of a run may have: now, and in 0.1; none for a baseline itself."""
    recipe = parse_recipe(record.settings, f"run {record.run_key}")
    if recipe.cps.weight == 0 or recipe.reproduces:
        return ()
    settings = {**record.settings, "cps": {**recipe.cps.model_dump(mode="json"), "weight": 0}}
    baseline = parse_recipe(settings, f"the baseline of run {record.run_key}")
    ratio = parse_ratio(record.labeled_ratio)
    return tuple(
        run_key(baseline, name, record.dataset.digest, record.split, ratio, record.seed)
        for name in (record.dataset.name, "")
    )


def find_baseline(store: "Store", record: RunRecord, steps: int) -> RunResult | None:
    """Return the result of the run's baseline: the same dataset, split, recipe and steps, but CPS weight 0."""
    for key in baseline_keys(record):
        try:
            found = find_result(store, key)
        except WorkFailed:  # a version whose result this one cannot read
            continue
        if found is not None and found.split == record.split and found.checkpoints[-1].step == steps:
            return found
    return None


def gain_over(store: "Store", baseline: RunResult, result: RunResult, scores: Scores) -> BaselineGain | None:
    """Return the gain of a result, with its best checkpoint's scores; None if the two cannot be compared."""
    try:
        found = difference_of((result, baseline), (scores, scores_of(store, baseline)))
    except (UserError, WorkFailed) as error:
        progress.warn("select", f"no gain over the supervised baseline: {error}")
        return None
    is_known = found.low == found.low
    return BaselineGain(
        run_key=baseline.run_key,
        mIoU=baseline.best.mIoU,
        mIoU_low=baseline.best.mIoU_low,
        mIoU_high=baseline.best.mIoU_high,
        difference=found.difference,
        difference_low=found.low if is_known else None,
        difference_high=found.high if is_known else None,
    )
