"""The steps of the pipeline that evaluate: a shard of the sweep, and the choice of the best."""

import shutil
import tempfile
from pathlib import Path
from typing import Any


def evaluate_step(run_key: str, shard: str) -> dict[str, list[int]]:
    """Score the checkpoints of shard "i/n" (i from 0); returns their epochs as {"scored", "reused"}."""
    from components.evaluation.sweep import evaluate_shard
    from components.storage.client import open_store

    return evaluate_shard(run_key, shard, open_store())


def select_step(run_key: str, report_path: str = "", summary_path: str = "") -> dict[str, Any]:
    """Choose the best checkpoint and publish the result to MLflow, where tracking is on.

    Args:
        report_path: where to leave a copy of the HTML report.
        summary_path: where to leave a few lines of Markdown.

    Returns:
        What result.json holds, and besides `metrics` (percent), `classes` and `confusion` for KFP's artifacts.
    """
    from components.evaluation.publish import metrics, publish, summary
    from components.evaluation.select import select
    from components.runs.checkpoints import read_index
    from components.runs.record import load_run
    from components.storage import keys
    from components.storage.client import open_store
    from components.tracking.client import open_run
    from components.tracking.delivery import carried
    from components.tracking.published import mark_published, published, published_link

    store = open_store()
    result = select(run_key, store)
    record, _ = load_run(store, run_key)
    with tempfile.TemporaryDirectory() as folder:
        # Under this name for MLflow, which shows an artifact by its suffix; KFP's path has none.
        report = store.get_file(keys.run(run_key, "report.html"), Path(folder) / "report.html")
        if not published(store, run_key):
            with carried(store, run_key):
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
    matrix = result["confusion_matrix"]
    return {**result, "metrics": metrics(result), "classes": matrix["classes"], "confusion": matrix["matrix"]}
