"""Publish a result: curves and metrics to MLflow, and a Markdown summary for the KFP UI."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from components.evaluation.report.findings import judge
from components.labeled_ratio import labels_text
from components.pages.render import percent
from components.runs.result import VARIANTS, CheckpointScores, RunResult
from components.storage.settings import object_link
from components.tracking.registry import NO_CHAMPION_TAG

if TYPE_CHECKING:
    from components.runs.checkpoints import CheckpointEntry
    from components.storage.client import Store
    from components.tracking.client import Tracker


FIGURES = ("pixel_accuracy", "mean_accuracy", "frequency_weighted_IoU", "mean_Dice", "boundary_IoU")
"""The winner's metrics in [0, 1] other than mIoU."""


def publish(
    result: RunResult,
    entries: Sequence["CheckpointEntry"],
    store: "Store",
    tracker: "Tracker",
    report: Path,
) -> None:
    """Log the result to MLflow and register the weights as a version of the dataset's model.

    Curves of mIoU with its interval and of IoU/<class>, in the winner's variant, have the epoch as their step. Each
    checkpoint's metrics go to its LoggedModel, and the winner's metrics, URIs and summary to the run.

    Args:
        report: the HTML report, which must stay in place until the tracker is closed.
    """
    best, names = result.best, result.confusion_matrix.classes
    addresses = {entry.epoch: entry for entry in entries}
    for row in result.checkpoints:
        intervals = {"mIoU_low": row.mIoU_low, "mIoU_high": row.mIoU_high}
        figures = _present(
            {"mIoU": row.mean_iou(best.variant), **_variants(row), **intervals, "agreement": row.agreement}
        )
        entry = addresses[row.epoch]
        tracker.log_checkpoint(row.epoch, row.step, store.uri(entry.key), figures, entry.sha256)
        by_class = {f"IoU/{name}": value for name, value in zip(names, row.IoU, strict=True)}
        tracker.log(row.epoch, _present(by_class))
    tracker.log(best.epoch, _present(_winner(result)))
    tracker.set_tags(
        {
            "best_epoch": str(best.epoch),
            "best_variant": best.variant,
            "weights": result.weights.uri,
            "weights_sha256": result.weights.sha256,
            "report": result.report.uri,
            "mlflow.note.content": summary(result),  # the run's description
        }
    )
    if result.is_useless:
        tracker.set_tags({NO_CHAMPION_TAG: "true"})
    tracker.log_artifact(report)
    tracker.register(
        result.dataset.name,
        result.dataset.digest,
        result.weights.uri,
        best.mIoU or 0.0,
        {
            "sha256": result.weights.sha256,
            "labeled_ratio": result.labeled_ratio,
            "epoch": str(best.epoch),
            **({NO_CHAMPION_TAG: "true"} if result.is_useless else {}),
        },
        f"{percent(best.mIoU)} mIoU with {labels_text(result.labeled_ratio)}: epoch {best.epoch}, {best.variant}",
    )


def metrics(result: RunResult) -> dict[str, float]:
    """Return the metrics that the KFP UI shows for the step; shares are in percent."""
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
    """Return a Markdown summary: the verdict, where to find report and weights, and a table of classes.

    Args:
        tracking_link: URL of the run's page in MLflow, if there is one.

    Objects are shown by URI, and linked if CPS_PUBLIC_S3_URL is set.
    """
    best, found = result.best, judge(result)
    lines = [
        f"## {found.word}: {_plain(found.sentence)}",
        "",
        *_paragraphs("Why", found.why),
        *_paragraphs("Do next", found.next),
        f"{result.dataset.name} with {labels_text(result.labeled_ratio)}: epoch {best.epoch}, {best.variant}, "
        f"of {len(result.checkpoints)} checkpoints.",
        "",
        *([f"[Curves and figures in MLflow]({tracking_link})  "] if tracking_link else []),
        _place("Report", result.report.uri),
        _place("Weights", result.weights.uri),
        f"To download the weights, with access to the store: `cps weights pull {result.run_key}`",
        "",
        "| class | IoU | accuracy |",
        "| --- | ---: | ---: |",
        *(f"| {_plain(item.name)} | {percent(item.iou)} | {percent(item.accuracy)} |" for item in best.per_class),
        "",
        result.note,
    ]
    return "\n".join(lines) + "\n"


def _paragraphs(title: str, sentences: Sequence[str]) -> list[str]:
    return [f"**{title}.** {_plain(' '.join(sentences))}", ""] if sentences else []


def _plain(text: str) -> str:
    """Return text in which class names cannot be taken for a table's border or for HTML."""
    return text.replace("|", "&#124;").replace("<", "&lt;")


def _place(name: str, uri: str) -> str:
    link = object_link(uri)
    return f"{name}: [`{uri}`]({link})  " if link else f"{name}: `{uri}`  "


def _winner(result: RunResult) -> dict[str, float | None]:
    best = result.best
    return {
        "best_mIoU": best.mIoU,
        "best_mIoU_low": best.mIoU_low,
        "best_mIoU_high": best.mIoU_high,
        **{name: getattr(best, name) for name in (*FIGURES, "kappa")},
        **_test(result),
        "steps": float(result.checkpoints[-1].step),
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
    """Select the best checkpoint, publish the result to MLflow if tracking is on, and return it.

    Args:
        report_path: where to write a copy of the HTML report; empty for none.
        summary_path: where to write the Markdown summary; empty for none.
    """
    from components.evaluation.select import select
    from components.runs.checkpoints import read_index
    from components.runs.record import load_run
    from components.storage import keys
    from components.storage.client import reopen_store
    from components.tracking.client import open_run
    from components.tracking.delivery import delivered_through_store
    from components.tracking.published import mark_published, published, published_link

    store = reopen_store()
    result = select(run_key, store)
    record, _ = load_run(store, run_key)
    with tempfile.TemporaryDirectory() as folder:
        # MLflow chooses an artifact's viewer by its suffix, which KFP's path does not have.
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
