"""result.json, pseudo-labels.json and training-curve.json: the metrics of a run.

mIoU and all shares are in [0, 1]. None stands for an undefined metric, such as the IoU of a class that appears in no
image. Fields have the same names as in the files and in MLflow.
"""

from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import JsonValue, model_validator

from components.contract import Frozen, read, renamed
from components.runs.record import DatasetRef
from components.storage import keys
from components.units import percent, quantity

if TYPE_CHECKING:
    from components.storage.client import Store

FORMAT = 3
"""Version of result.json. Format 2, of 0.1.0, has `ratio` for `labeled_ratio` and `mean` for `ensemble`."""

CURVE_POINTS = 500
"""Maximum number of points in the stored curve of a training."""

Variant = Literal["left", "right", "ensemble"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
"""The two networks, and the average of their softmax probabilities."""


class Choice(Frozen):
    """A checkpoint in one variant."""

    epoch: int
    step: int
    variant: Variant
    mIoU: float | None


class ClassFigures(Frozen):
    """Metrics of one class. A class that is neither in the truth nor predicted has no IoU and is left out of means."""

    name: str
    iou: float | None
    accuracy: float | None
    dice: float | None
    boundary_iou: float | None
    share: float
    """Share of the labelled pixels."""


class Figures(Frozen):
    """Every metric except mIoU. Means are over the classes that are present, for boundary IoU those with a boundary."""

    per_class: tuple[ClassFigures, ...]
    mean_accuracy: float | None
    pixel_accuracy: float | None
    frequency_weighted_IoU: float | None
    mean_Dice: float | None
    kappa: float | None
    boundary_IoU: float | None


class Best(Choice, Figures):
    """The selected checkpoint and variant, with the 95 % interval of its mIoU."""

    mIoU_low: float | None
    mIoU_high: float | None


class HeldOutScores(Figures):
    """Metrics of the selected weights on the test list, which is not used for the selection."""

    images: int
    mIoU: float | None
    mIoU_low: float | None
    mIoU_high: float | None


class Lead(Frozen):
    """The mIoU lead of the best checkpoint and variant over another one on the same images."""

    over: Choice
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    is_clear: bool
    """Whether the interval of the paired difference excludes 0."""


class BaselineGain(Frozen):
    """The lead of the best checkpoint over that of the supervised baseline: the same dataset, split, recipe and number
    of steps, but CPS weight 0.
    """

    run_key: str
    """The baseline's."""
    mIoU: float | None
    mIoU_low: float | None
    mIoU_high: float | None
    difference: float
    difference_low: float | None
    difference_high: float | None
    """`difference_low` to `difference_high` is the 95 % interval of the paired difference over images."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        low, high = self.difference_low, self.difference_high
        return low is not None and high is not None and not low <= 0 <= high


class CheckpointScores(Frozen):
    """mIoU of each variant; the interval and the per-class IoU are those of the winner's variant."""

    epoch: int
    step: int
    left: float | None
    right: float | None
    ensemble: float | None
    mIoU_low: float | None
    mIoU_high: float | None
    IoU: tuple[float | None, ...]
    agreement: float | None = None
    """Share of the validation pixels, labelled or not, for which both networks predict the same class."""

    def mean_iou(self, variant: Variant) -> float | None:
        found: float | None = getattr(self, variant)
        return found


class ConfusionMatrix(Frozen):
    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    """Pixels; rows are the truth."""


class ScoringProtocol(Frozen):
    """How images were scored: the sliding window, as (height, width) in pixels, and its passes."""

    crop: tuple[int, int]
    stride: tuple[int, int]
    engine: str
    scales: tuple[float, ...]
    flip: bool
    boundary_ratio: float
    """The boundary IoU's distance, as a share of the image's diagonal."""
    longest_side: int = 0
    """Number of pixels along the longer side to which larger images are reduced; 0 keeps their size."""
    checkpoint_sha256: str


class BootstrapSettings(Frozen):
    """How intervals were computed. Earlier versions resampled single images, and did not record the fields from
    `blocks` on.
    """

    level: float
    draws: int
    seed: int
    blocks: int = 0
    """Number of blocks of images that were resampled: single images, and runs of consecutive frames."""
    sequences: int = 0
    frames: int = 0
    """Number of validation images that belong to a sequence."""

    def resampled(self, images: int) -> str:
        """Return what was resampled, such as `10 blocks of consecutive frames`, out of that many images."""
        if not self.sequences:
            return quantity(images, "validation image")
        single = images - self.frames
        blocks = f"{quantity(self.blocks - single, 'block')} of consecutive frames"
        return f"{blocks} and {quantity(single, 'single image')}" if single else blocks


class StoredObject(Frozen):
    """An object in the store; `size` is in bytes."""

    uri: str
    sha256: str = ""
    size: int = 0


class RunResult(Frozen):
    """result.json, which is written last: if it exists, the run is complete."""

    format: int = FORMAT
    run_key: str
    recipe: str
    dataset: DatasetRef
    labeled_ratio: str
    seed: int
    split: str
    """The split's fingerprint."""
    images: int
    """Validation images."""
    best: Best
    last: Choice
    """The last checkpoint, in the winner's variant."""
    lead: Lead | None
    """Over the last checkpoint; None where the best is the last."""
    variants: tuple[Lead, ...]
    """Over the other variants of the best checkpoint."""
    test: HeldOutScores | None
    checkpoints: tuple[CheckpointScores, ...]
    """By epoch."""
    constant_prediction_mIoU: float | None
    """The mIoU of predicting a single class everywhere, for the class that scores best."""
    constant_prediction_class: str
    is_better_than_constant: bool | None = None
    """Whether the mIoU exceeds the best constant prediction's by more than chance; None in results of 0.1.0."""
    baseline: BaselineGain | None = None
    """The gain over the supervised baseline; None if there was none yet."""
    likely_reasons: tuple[str, ...] = ()
    """Why it may not be better, with advice; empty if it is."""
    confusion_matrix: ConfusionMatrix
    protocol: ScoringProtocol
    interval: BootstrapSettings
    note: str
    weights: StoredObject
    report: StoredObject

    @property
    def is_useless(self) -> bool:
        """Whether the result is known to be no better than a constant prediction."""
        return self.is_better_than_constant is False

    @model_validator(mode="before")
    @classmethod
    def _read_format_2(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("format") != 2:
            return value
        return renamed(_ensemble_for_mean(value), {"ratio": "labeled_ratio"}) | {"format": FORMAT}


def useless_text(result: RunResult) -> str:
    """Return the sentence that says that a result is no better than a constant prediction."""
    return (
        f"This is no better than predicting {result.constant_prediction_class} everywhere "
        f"({percent(result.constant_prediction_mIoU)} mIoU): do not use these weights."
    )


def _ensemble_for_mean(value: JsonValue) -> Any:
    """Rename the variant `mean`, as a key and as the value of `variant`."""
    if isinstance(value, list):
        return [_ensemble_for_mean(item) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {"ensemble" if name == "mean" else name: _ensemble_for_mean(item) for name, item in value.items()}
    return {**renamed, "variant": "ensemble"} if renamed.get("variant") == "mean" else renamed


class PseudoLabelEpoch(Frozen):
    """The pseudo-labels of one epoch, compared with the labels that the split hides."""

    epoch: int
    accuracy: float | None
    agreement: float | None
    """Agreement between the two networks."""
    labeled_share: float | None
    """Share of the pixels with a hidden label that have a pseudo-label."""
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    """`precision` and `recall` are per class."""


class PseudoLabelRecord(Frozen):
    """pseudo-labels.json."""

    classes: tuple[str, ...]
    images: int
    """Unlabelled images whose labels are known."""
    epochs: tuple[PseudoLabelEpoch, ...]


class CurvePoint(Frozen):
    """Mean losses over the steps from the point before to `step`, and the learning rate at `step`."""

    step: int
    loss_supervised: float
    loss_cross: float
    learning_rate: float


class TrainingCurve(Frozen):
    """training-curve.json."""

    steps_per_epoch: int
    points: tuple[CurvePoint, ...]


def thinned(points: list[CurvePoint]) -> list[CurvePoint]:
    """Drop every second point if there are more than CURVE_POINTS, but never the last one."""
    return points if len(points) <= CURVE_POINTS else [*points[:-1:2], points[-1]]


def read_result(store: "Store", run_key: str) -> RunResult:
    """Return a finished run's result. Raises MissingObject, WorkFailed."""
    key = keys.run(run_key, "result.json")
    return read(RunResult, store.get_json(key), store.uri(key))


def find_result(store: "Store", run_key: str) -> RunResult | None:
    """Return a run's result, or None if the run is not finished. Raises WorkFailed."""
    key = keys.run(run_key, "result.json")
    value = store.find_json(key)
    return None if value is None else read(RunResult, value, store.uri(key))
