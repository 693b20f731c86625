"""Whole run.json and result.json of a run that was never made, for tests of those who read them."""

from typing import Any

from components.runs.record import DatasetRef, RunRecord
from components.runs.result import (
    Best,
    BootstrapSettings,
    CheckpointScores,
    Choice,
    ClassFigures,
    ConfusionMatrix,
    RunResult,
    ScoringProtocol,
    StoredObject,
)

DATASET = DatasetRef(digest="1" * 64, name="scenes")
CLASSES = ("road", "sky")


def make_record(run_key: str, **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "run_key": run_key,
        "recipe": "demo",
        "settings": {},
        "overrides": {},
        "labeled_ratio": "1/8",
        "seed": 0,
        "dataset": DATASET,
        "split": "5" * 64,
        "method_version": 1,
        "versions": {},
        "created": "2024-05-01T00:00:00+00:00",
    }
    return RunRecord(**(fields | changes))


def make_best(**changes: Any) -> Best:
    figures = {name: 0.5 for name in Best.model_fields if name not in ("per_class", "variant", "epoch", "step")}
    per_class = tuple(
        ClassFigures(name=name, iou=0.5, accuracy=0.5, dice=0.5, boundary_iou=0.5, share=0.5) for name in CLASSES
    )
    return Best(**({**figures, "per_class": per_class, "epoch": 6, "step": 20, "variant": "ensemble"} | changes))


def make_checkpoint(epoch: int, **changes: Any) -> CheckpointScores:
    fields = {"left": 0.4, "right": 0.4, "ensemble": 0.5, "mIoU_low": 0.4, "mIoU_high": 0.6, "IoU": (0.5, 0.5)}
    return CheckpointScores(**({**fields, "epoch": epoch, "step": epoch * 10} | changes))


def make_result(run_key: str, **changes: Any) -> RunResult:
    best = changes.pop("best", make_best())
    fields: dict[str, Any] = {
        "run_key": run_key,
        "recipe": "demo",
        "dataset": DATASET,
        "labeled_ratio": "1/8",
        "seed": 0,
        "split": "5" * 64,
        "images": 4,
        "best": best,
        "last": Choice(epoch=best.epoch, step=best.step, variant=best.variant, mIoU=best.mIoU),
        "lead": None,
        "variants": (),
        "test": None,
        "checkpoints": (make_checkpoint(6),),
        "constant_prediction_mIoU": 0.1,
        "constant_prediction_class": CLASSES[0],
        "confusion_matrix": ConfusionMatrix(classes=CLASSES, matrix=((1, 1), (1, 1))),
        "protocol": ScoringProtocol(
            crop=(64, 64),
            stride=(64, 64),
            engine="exact",
            scales=(1.0,),
            flip=False,
            boundary_ratio=0.01,
            checkpoint_sha256="a" * 64,
        ),
        "interval": BootstrapSettings(level=0.95, draws=1000, seed=0),
        "note": "",
        "weights": StoredObject(uri="s3://cps/weights"),
        "report": StoredObject(uri="s3://cps/report"),
    }
    return RunResult(**(fields | changes))
