"""A result where people look for it: curves and figures in MLflow, and a few lines of Markdown for the KFP UI."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from components.labeled_ratio import labels_text
from components.pages.render import percent
from components.runs.result import VARIANTS, CheckpointScores, RunResult
from components.storage.settings import object_link

if TYPE_CHECKING:
    from components.runs.checkpoints import CheckpointEntry
    from components.storage.client import Store
    from components.tracking.client import Tracker


FIGURES = ("pixel_accuracy", "mean_accuracy", "frequency_weighted_IoU", "mean_Dice", "boundary_IoU")
"""The winner's shares besides mIoU."""


def publish(
    result: RunResult,
    entries: Sequence["CheckpointEntry"],
    store: "Store",
    tracker: "Tracker",
    report: Path,
) -> None:
    """mIoU with its interval and IoU/<class> at step = epoch, each checkpoint's figures on its LoggedModel, the
    winner's figures, addresses, the summary, and the weights as a version of the dataset's model in the registry.

    The curves follow the winner's variant. `report` must stay where it is until the tracker is closed.
    """
    best, names = result.best, result.confusion_matrix.classes
    addresses = {entry.epoch: entry for entry in entries}
    for row in result.checkpoints:
        intervals = {"mIoU_low": row.mIoU_low, "mIoU_high": row.mIoU_high}
        figures = _present({"mIoU": row.mean_iou(best.variant), **_variants(row), **intervals})
        entry = addresses[row.epoch]
        tracker.log_checkpoint(row.epoch, row.step, store.uri(entry.key), figures, entry.sha256)
        by_class = {f"IoU/{name}": value for name, value in zip(names, row.IoU, strict=True)}
        tracker.log(row.epoch, _present(by_class))
    tracker.log(best.epoch, _present(_winner(result)))
    tracker.set_tags(
        {
            "best_epoch": best.epoch,
            "best_variant": best.variant,
            "weights": result.weights.uri,
            "weights_sha256": result.weights.sha256,
            "report": result.report.uri,
            "mlflow.note.content": summary(result),  # the run's description
        }
    )
    tracker.log_artifact(report)
    tracker.register(
        result.dataset.name,
        result.dataset.digest,
        result.weights.uri,
        best.mIoU or 0.0,
        {"sha256": result.weights.sha256, "labeled_ratio": result.labeled_ratio, "epoch": best.epoch},
        f"{percent(best.mIoU)} mIoU with {labels_text(result.labeled_ratio)}: epoch {best.epoch}, {best.variant}",
    )


def metrics(result: RunResult) -> dict[str, float]:
    """The figures that the KFP UI shows beside the step; shares in percent."""
    best = result.best
    shares = {
        "mIoU": best.mIoU,
        "mIoU_low": best.mIoU_low,
        "mIoU_high": best.mIoU_high,
        "last_mIoU": result.last.mIoU,
        **_test(result),
        **{name: getattr(best, name) for name in FIGURES},
        "constant_prediction_mIoU": result.constant_prediction_mIoU,
    }
    figures = {name: round(100 * value, 2) for name, value in _present(shares).items()}
    if best.kappa is not None:
        figures["kappa"] = round(best.kappa, 4)
    ratio = round(100 * float(Fraction(result.labeled_ratio)), 4)
    return {**figures, "labeled_ratio": ratio, "best_epoch": float(best.epoch)}


def summary(result: RunResult, tracking_link: str = "") -> str:
    """Markdown: the headline, a table of classes, and where things are: the run's page in MLflow at `tracking_link`,
    and objects by URI, with links where CPS_PUBLIC_S3_URL says where people reach them.
    """
    best = result.best
    lines = [
        f"## {percent(best.mIoU)} mIoU",
        "",
        *_intervals(result),
        f"Epoch {best.epoch}, {best.variant}; {result.dataset.name} with {labels_text(result.labeled_ratio)}, "
        f"{result.images} validation images. Predicting one class everywhere scores "
        f"{percent(result.constant_prediction_mIoU)}.",
        "",
        "| class | IoU | accuracy |",
        "| --- | ---: | ---: |",
        *(
            f"| {item.name.replace('|', '&#124;')} | {percent(item.iou)} | {percent(item.accuracy)} |"
            for item in best.per_class
        ),
        "",
        *([f"[Curves and figures in MLflow]({tracking_link})  "] if tracking_link else []),
        _place("Weights", result.weights.uri),
        _place("Report", result.report.uri),
        f"On any machine with the store's keys: `cps weights pull {result.run_key}`",
        "",
        result.note,
    ]
    return "\n".join(lines) + "\n"


def _place(name: str, uri: str) -> str:
    link = object_link(uri)
    return f"{name}: [`{uri}`]({link})  " if link else f"{name}: `{uri}`  "


def _intervals(result: RunResult) -> list[str]:
    """The validation figure's interval and, where there is one, the test figure."""
    best, test = result.best, result.test
    lines = []
    if best.mIoU_low is not None:
        lines += [f"95 % interval over images: {percent(best.mIoU_low)} to {percent(best.mIoU_high)}.", ""]
    if test:
        lines += [
            f"Test list ({test.images} images, scored once): {percent(test.mIoU)} "
            f"({percent(test.mIoU_low)} to {percent(test.mIoU_high)}).",
            "",
        ]
    return lines


def _winner(result: RunResult) -> dict[str, float | None]:
    best = result.best
    return {
        "best_mIoU": best.mIoU,
        "best_mIoU_low": best.mIoU_low,
        "best_mIoU_high": best.mIoU_high,
        **{name: getattr(best, name) for name in (*FIGURES, "kappa")},
        **_test(result),
    }


def _test(result: RunResult) -> dict[str, float | None]:
    test = result.test
    if test is None:
        return {}
    return {"test_mIoU": test.mIoU, "test_mIoU_low": test.mIoU_low, "test_mIoU_high": test.mIoU_high}


def _variants(row: CheckpointScores) -> dict[str, float | None]:
    return {f"mIoU/{variant}": row.mean_iou(variant) for variant in VARIANTS}


def _present(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}


def select_step(run_key: str, report_path: str = "", summary_path: str = "") -> RunResult:
    """Choose the best checkpoint and publish the result to MLflow, where tracking is on; return the result.

    Args:
        report_path: where to leave a copy of the HTML report.
        summary_path: where to leave a few lines of Markdown.
    """
    from components.evaluation.select import select
    from components.runs.checkpoints import read_index
    from components.runs.record import load_run
    from components.storage import keys
    from components.storage.client import open_store
    from components.tracking.client import open_run
    from components.tracking.delivery import delivered_through_store
    from components.tracking.published import mark_published, published, published_link

    store = open_store()
    result = select(run_key, store)
    record, _ = load_run(store, run_key)
    with tempfile.TemporaryDirectory() as folder:
        # Under this name for MLflow, which shows an artifact by its suffix; KFP's path has none.
        report = store.get_file(keys.run(run_key, "report.html"), Path(folder) / "report.html")
        if not published(store, run_key):
            with delivered_through_store(store, run_key):
                tracker = open_run(run_key, record.dataset.name, {})
                publish(result, read_index(store, run_key), store, tracker, report)
                if tracker.close():
                    mark_published(store, run_key, tracker.page)
        if report_path:
            Path(report_path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(report, report_path)
    if summary_path:
        Path(summary_path).parent.mkdir(parents=True, exist_ok=True)
        Path(summary_path).write_text(summary(result, published_link(store, run_key)), encoding="utf-8")
    return result
