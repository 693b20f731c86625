"""The bootstrap draws of a finished run, to compare runs on the same images."""

import hashlib
from typing import TYPE_CHECKING

from components.contract import canonical_json
from components.errors import WorkFailed
from components.evaluation.scores import unpack
from components.metrics.bootstrap import Draws
from components.runs.result import read_result
from components.storage import keys
from components.storage.client import MissingObject

if TYPE_CHECKING:
    from components.storage.client import Store


def last_draws(store: "Store", run_key: str) -> Draws | None:
    """Return the draws of a finished run's last checkpoint with both networks averaged; None without its scores.

    Runs of one dataset have equal draws, so their differences are paired.
    """
    key = keys.scores(run_key, read_result(store, run_key).checkpoints[-1].epoch)
    try:
        scores = unpack(store.get_bytes(key), store.uri(key))
    except (MissingObject, WorkFailed):
        return None
    if scores is None or "ensemble" not in scores.counts:
        return None
    parts = [*scores.images], scores.blocks().of_image.tolist()
    values = scores.bootstrap().mean_iou(scores.counts["ensemble"].by_image)
    return Draws(values, hashlib.sha256(canonical_json(parts)).hexdigest())
