"""A result where people look for it: curves and figures in MLflow, and a few lines of Markdown for the KFP UI."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.inference.page import percent

if TYPE_CHECKING:
    from components.evaluation.sweep import CheckpointEntry
    from components.storage.client import Store
    from components.tracking.client import Tracker


def publish(
    result: Mapping[str, Any],
    entries: Sequence["CheckpointEntry"],
    store: "Store",
    tracker: "Tracker",
    report: Path,
) -> None:
    """mIoU and IoU/<class> at step = epoch, each checkpoint's figures on its LoggedModel, best_mIoU, addresses.

    The curves follow the winner's variant. `report` must stay where it is until the tracker is closed.
    """
    best, names = result["best"], result["confusion_matrix"]["classes"]
    addresses = {entry.epoch: entry for entry in entries}
    for row in result["checkpoints"]:
        figures = _present({"mIoU": row[best["variant"]], **_variants(row)})
        entry = addresses[row["epoch"]]
        tracker.log_checkpoint(row["epoch"], row["step"], store.uri(entry.key), figures, entry.sha256)
        by_class = {f"IoU/{name}": value for name, value in zip(names, row["IoU"], strict=True)}
        tracker.log(row["epoch"], _present(by_class))
    tracker.log(best["epoch"], _present({"best_mIoU": best["mIoU"], "pixel_accuracy": best["pixel_accuracy"]}))
    tracker.set_tags(
        {
            "best_epoch": best["epoch"],
            "best_variant": best["variant"],
            "weights": result["weights"]["uri"],
            "weights_sha256": result["weights"]["sha256"],
            "report": result["report"]["uri"],
        }
    )
    tracker.log_artifact(report)


def metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures that the KFP UI shows beside the step, in percent."""
    best, last = result["best"], result["last"]
    shares = {
        "mIoU": best["mIoU"],
        "last_mIoU": last["mIoU"],
        "pixel_accuracy": best["pixel_accuracy"],
        "constant_prediction_mIoU": result["constant_prediction_mIoU"],
    }
    figures = {name: round(100 * value, 2) for name, value in _present(shares).items()}
    return {**figures, "best_epoch": float(best["epoch"])}


def summary(result: Mapping[str, Any]) -> str:
    """Markdown: the headline, a table of classes, and where things are."""
    best = result["best"]
    lines = [
        f"## {percent(best['mIoU'])} mIoU",
        "",
        f"Epoch {best['epoch']}, {best['variant']}; {result['dataset']['name']} with {result['ratio']} of the labels, "
        f"{result['images']} validation images. Predicting one class everywhere scores "
        f"{percent(result['constant_prediction_mIoU'])}.",
        "",
        "| class | IoU | accuracy |",
        "| --- | ---: | ---: |",
        *(
            f"| {item['name'].replace('|', '&#124;')} | {percent(item['iou'])} | {percent(item['accuracy'])} |"
            for item in best["per_class"]
        ),
        "",
        f"Weights: `{result['weights']['uri']}`  ",
        f"Report: `{result['report']['uri']}`",
        "",
        result["note"],
    ]
    return "\n".join(lines) + "\n"


def _variants(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {f"mIoU/{variant}": row[variant] for variant in ("left", "right", "mean")}


def _present(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}
