"""Early stopping on labelled images that are held out from training.

The seed determines which labelled images are held out. Val and test images are never used, because they judge the
result. With few labels, holding out is expensive: a tenth of 46 labelled images is five fewer to learn from, and the
mIoU of five images is noisy. Use it for long trainings with labels to spare. If the images are frames of one video, a
held-out frame has neighbours in the training set, so its score is too optimistic.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from components import progress
from components.dataset.manifest import Sample
from components.dataset.split import Split
from components.errors import UserError
from components.inference.paddle_engine import PaddleEngine
from components.inference.passes import image_logits
from components.inference.probabilities import mean_probabilities, most_likely
from components.inference.sliding import Window
from components.metrics.confusion import confusion_matrix
from components.metrics.scores import mean_iou
from components.recipes import Recipe
from components.training.batches.randomness import Stream, generator

if TYPE_CHECKING:
    from components.dataset.manifest import Manifest
    from components.training.group import Group
    from components.training.pair import Pair


class Pixels(Protocol):
    """The part of DatasetReader that early stopping uses."""

    manifest: "Manifest"

    def image(self, name: str) -> NDArray[np.uint8]: ...

    def label(self, name: str) -> NDArray[np.uint8]: ...


def hold_out(split: Split, share: float, seed: int) -> tuple[Split, tuple[Sample, ...]]:
    """Hold out a `share` of the labelled images: return the remaining split and the held-out samples.

    A share above 0 holds out at least one. Held-out images are not used as unlabelled images either.
    Raises UserError if no labelled image would remain.
    """
    if share == 0:
        return split, ()
    count = max(1, round(len(split.labeled) * share))
    if count >= len(split.labeled):
        raise UserError(
            f"training.holdout={share:g} takes {count} of {len(split.labeled)} labelled images and leaves none to "
            "train on: set training.holdout=0 and training.patience=0"
        )
    chosen = set(generator(seed, Stream.HOLDOUT).permutation(len(split.labeled))[:count].tolist())
    kept = tuple(sample for place, sample in enumerate(split.labeled) if place not in chosen)
    held = tuple(sample for place, sample in enumerate(split.labeled) if place in chosen)
    return split.model_copy(update={"labeled": kept}), held


class EarlyStop:
    """Scores the ensemble of both networks on the held-out images after every epoch.

    Training stops after `training.patience` epochs in a row without a new best score.
    """

    def __init__(self, held: Sequence[Sample], reader: Pixels, recipe: Recipe) -> None:
        self._held, self._reader, self._recipe = held, reader, recipe
        self._patience = recipe.training.patience
        self.best, self.best_epoch = -1.0, 0

    def ends(self, epoch: int, score: float) -> bool:
        """Record an epoch's score and return whether training should stop."""
        if score > self.best:
            self.best, self.best_epoch = score, epoch
        summary = f"epoch {epoch}: mIoU {100 * score:.1f} % on {len(self._held)} held-out images"
        if epoch - self.best_epoch < self._patience:
            progress.say("train", summary)
            return False
        progress.say(
            "train",
            f"{summary}: stopping early, because epoch {self.best_epoch} was the best with {100 * self.best:.1f} % and "
            f"training.patience is {self._patience}",
        )
        return True

    def score(self, pair: "Pair", group: "Group") -> float:
        """Return the mIoU in [0, 1] of the weights that a checkpoint would hold now. The networks are not changed.

        Every process must call it, and each scores its share: gloo times out after half a minute, too soon for one
        process to score all images.
        """
        manifest, evaluation, augmentation = self._reader.manifest, self._recipe.evaluation, self._recipe.augmentation
        longest_side = self._recipe.network.longest_side
        window = Window(evaluation.crop, evaluation.stride, evaluation.batch, longest_side=longest_side)
        classes = len(manifest.classes)
        total = np.zeros((classes, classes), np.int64)
        with pair.evaluated() as networks:
            engines = [PaddleEngine(network) for network in networks]
            for sample in self._held[group.rank :: group.processes]:
                image = self._reader.image(sample.image)
                logits = image_logits(engines, image, window, mean=augmentation.mean, std=augmentation.std)
                assert sample.label is not None, "a labelled image has a label"
                prediction = most_likely(mean_probabilities(logits))
                total += confusion_matrix(self._reader.label(sample.label), prediction, classes, manifest.ignore_index)
        found = mean_iou(group.totals(total))
        return found if np.isfinite(found) else 0.0

    def state(self) -> dict[str, float]:
        """Return the state for a recovery, as JSON values."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state(self, state: dict[str, float]) -> None:
        self.best, self.best_epoch = state["best"], int(state["best_epoch"])
