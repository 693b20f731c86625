"""Score the selected weights, and only those, once on the dataset's test list, which is not used for the selection."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.dataset.stored.reader import DatasetReader
from components.evaluation.comparison.pairs import ValidationPairs
from components.evaluation.scores import Scores, pack, unpack
from components.evaluation.sweep import ImageProgress, Sweep, describe, score_images, with_label
from components.inference.checkpoint import Checkpoint
from components.inference.sliding import images_in_flight
from components.runs.checkpoints import CheckpointEntry
from components.runs.result import Variant
from components.storage import keys
from components.storage.client import MissingObject

if TYPE_CHECKING:
    from components.storage.client import Store

STEP = "select"


def score_test_list(
    store: "Store",
    sweep: Sweep,
    reader: DatasetReader,
    entry: CheckpointEntry,
    variant: Variant,
    checkpoint: Checkpoint,
    scratch: Path,
) -> Scores | None:
    """Return the scores of `variant` on the test list, or None if no test image has a label.

    They are stored, and reused for the same checkpoint, variant and protocol.
    """
    samples = with_label(sweep.split.test)
    if not samples:
        return None
    key = keys.test_scores(sweep.run_key)
    images = tuple(image for image, _ in samples)
    found = _stored(store, key)
    if found is not None and (found.checkpoint_sha256, found.protocol, found.images, tuple(found.counts)) == (
        entry.sha256,
        sweep.protocol,
        images,
        (variant,),
    ):
        return found
    progress.say(STEP, f"scoring epoch {entry.epoch}, {variant}, on {len(samples)} test images")
    with tempfile.TemporaryDirectory(dir=scratch) as folder, ValidationPairs(reader, samples, Path(folder)) as decoded:
        workers = images_in_flight(decoded.pair(0)[1].size, len(sweep.protocol.classes))
        report = ImageProgress(len(decoded), STEP)
        report.start(entry.epoch)
        counts = score_images(checkpoint, decoded, sweep, workers, report.image_done, (variant,))
        near_copies = decoded.near_copies()
    scores = Scores(entry.epoch, entry.step, entry.sha256, sweep.protocol, images, counts, near_copies)
    store.put_bytes(key, pack(scores))
    progress.say(STEP, f"test list: {describe(scores)}")
    return scores


def _stored(store: "Store", key: str) -> Scores | None:
    try:
        return unpack(store.get_bytes(key), store.uri(key))
    except MissingObject:
        return None
