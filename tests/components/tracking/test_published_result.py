"""What a finished sweep leaves in MLflow."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.evaluation.publish import publish, summary
from components.evaluation.result import build_result
from components.evaluation.scores import Counts, Protocol, Scores
from components.evaluation.verdict import decide
from components.runs.checkpoints import CheckpointEntry
from components.runs.record import DatasetRef, RunRecord
from components.runs.result import VARIANTS, StoredObject
from components.storage.client import Store
from components.tracking.client import open_run

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

RECORD = RunRecord(
    run_key="demo-1-8-s0-0123456789ab",
    recipe="demo",
    settings={},
    overrides={},
    labeled_ratio="1/8",
    seed=0,
    dataset=DatasetRef(digest="d" * 64, name="streets"),
    split="f" * 64,
    method_version=1,
    versions={},
    created="2025-01-01T00:00:00+00:00",
)


def make_scores(epoch: int, images: int = 5) -> Scores:
    random = np.random.default_rng(epoch)
    protocol = Protocol("f" * 64, ("road", "sky"), 255, (32, 32), (32, 32), "paddle")
    hits = 90 * np.eye(2, dtype=np.int64)
    bands = np.tile([[6, 9, 8], [2, 4, 6]], (images, 1, 1))
    counts = {variant: Counts.of_images(random.integers(1, 90, (images, 2, 2)) + hits, bands) for variant in VARIANTS}
    names, agreement = tuple(map(str, range(images))), 1 - 1 / (2 + epoch)
    return Scores(epoch, epoch * 10, f"{epoch:064}", protocol, names, counts, agreement=agreement)


def test_curves_with_intervals_the_winners_figures_and_the_page(client: Any, store: Store, tmp_path: Path) -> None:
    scores = [make_scores(epoch) for epoch in (1, 2, 3)]
    result = build_result(
        RECORD,
        decide(scores),
        next(item for item in scores if item.epoch == decide(scores).best.epoch),
        make_scores(9),
        weights=StoredObject(uri="s3://cps/weights/best.safetensors", sha256="a" * 64),
        report=StoredObject(uri="s3://cps/report.html"),
    )
    page = tmp_path / "report.html"
    page.write_text("<!doctype html>")
    entries = [
        CheckpointEntry(epoch=item.epoch, step=item.step, key=f"epoch-{item.epoch}", sha256=item.checkpoint_sha256)
        for item in scores
    ]
    with open_run(RECORD.run_key, "streets", {"seed": "0"}) as tracker:
        publish(result, entries, store, tracker, page)
        assert tracker.finish()

    experiment = client.get_experiment_by_name("cps/streets").experiment_id
    run = client.search_runs([experiment])[0]

    def curve(name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]

    rows = result.checkpoints
    for name in ("mIoU_low", "mIoU_high"):
        assert curve(name) == [(row.epoch, getattr(row, name)) for row in rows]
    assert curve("mIoU") == [(row.epoch, row.mean_iou(result.best.variant)) for row in rows]
    assert [step for step, _ in curve("IoU/road")] == [1, 2, 3]
    best = result.best
    for name in ("kappa", "boundary_IoU", "mean_Dice", "mean_accuracy"):
        assert curve(name) == [(best.epoch, getattr(best, name))]
    assert curve("best_mIoU_low") == [(best.epoch, best.mIoU_low)]
    assert curve("agreement") == [(row.epoch, row.agreement) for row in result.checkpoints]
    assert curve("steps") == [(best.epoch, result.checkpoints[-1].step)]
    assert curve("test_mIoU") == [(best.epoch, result.test.mIoU)]
    models = client.search_logged_models([experiment])
    figures = {model.params["epoch"]: {metric.key for metric in model.metrics} for model in models}
    assert set(figures) == {"1", "2", "3"}
    assert figures["2"] >= {"mIoU", "mIoU_low", "mIoU_high", "mIoU/left"}
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["report.html"]
    champion = client.get_model_version_by_alias("cps-streets-dddddddd", "champion")
    assert (champion.run_id, champion.source) == (run.info.run_id, "s3://cps/weights/best.safetensors")
    assert run.data.tags["mlflow.note.content"] == summary(result)
    assert run.data.tags["mlflow.note.content"].startswith(f"## Doubtful: {100 * best.mIoU:.1f}")
    assert champion.tags == {
        "cps.run_key": RECORD.run_key,
        "mIoU": str(best.mIoU),
        "sha256": "a" * 64,
        "labeled_ratio": "1/8",
        "epoch": str(best.epoch),
    }
    assert "no_better_than_constant" not in run.data.tags


def test_a_result_that_is_no_better_than_a_constant_says_so(client: Any, store: Store, tmp_path: Path) -> None:
    constant = Counts.of_images(np.tile([[40, 0], [40, 0]], (5, 1, 1)), np.tile([[6, 9, 8], [2, 4, 6]], (5, 1, 1)))
    scores = [replace(make_scores(1), counts=dict.fromkeys(VARIANTS, constant))]
    result = build_result(
        RECORD,
        decide(scores),
        next(item for item in scores if item.epoch == decide(scores).best.epoch),
        reasons=["14 labelled images are few"],
        weights=StoredObject(uri="s3://cps/best"),
        report=StoredObject(uri="s3://cps/report.html"),
    )
    assert result.is_useless
    page = tmp_path / "report.html"
    page.write_text("<!doctype html>")
    entry = CheckpointEntry(epoch=1, step=10, key="epoch-1", sha256=scores[0].checkpoint_sha256)
    with open_run(RECORD.run_key, "streets", {"seed": "0"}) as tracker:
        publish(result, [entry], store, tracker, page)
        assert tracker.finish()
    (run,) = client.search_runs([client.get_experiment_by_name("cps/streets").experiment_id])
    assert run.data.tags["no_better_than_constant"] == "true"
    note = run.data.tags["mlflow.note.content"]
    assert "This is no better than predicting road everywhere" in note
    assert "14 labelled images are few" in note
    assert client.get_registered_model("cps-streets-dddddddd").aliases == {}
