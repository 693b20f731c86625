"""`cps compare`: the list in 80 columns, and two runs on the same images."""

import csv
import io
import json
from pathlib import Path

import pytest

from components.storage import keys
from components.storage.client import Store
from components.tracking.compare import RunRow
from pipeline.cli.tables import comparison_csv, print_comparison
from tests.components.evaluation.comparison.test_difference import HARD, put_run
from tests.pipeline.in_process import cps
from tests.run_objects import make_record


def row(number: int, **changes: object) -> RunRow:
    fields: dict[str, object] = {
        "run_key": f"photographs-of-many-streets-efficientnet-lite0-photos-1-8-s0-{number:012x}",
        "dataset": "photographs-of-many-streets",
        "split": "5" * 64,
        "method": "cps",
        "recipe": "a-recipe-with-a-name-that-is-too-long",
        "labeled_ratio": "1/8",
        "seed": "0",
        "best_miou": 0.5,
        "miou_low": 0.4,
        "miou_high": 0.6,
        "epoch": "5",
        "variant": "ensemble",
        "status": "FINISHED",
        "started": "2026-01-01T00:00:00+00:00",
        "weights": "s3://cps/weights",
        "run_id": "1",
    }
    return RunRow(**(fields | changes))  # type: ignore[arg-type]


ROWS = [
    row(1, gain=0.123, baseline="b"),
    row(2, dataset="camvid", method="supervised"),
    row(3, method="supervised"),
    row(4, best_miou=None, miou_low=None, miou_high=None, status="FAILED"),
]


def test_runs_are_grouped_by_dataset_and_split_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2] == "photographs-of-many-streets, labels 1/8, seed 0, split 555555"
    assert lines[3].split()[:8] == ["50.0", "%", "40.0", "to", "60.0", "+12.3", "cps", "000000000001"]
    assert [line.split()[-2] for line in lines[4:6]] == ["000000000003", "000000000004"]
    assert "failed" in lines[5]
    assert lines[7].startswith("camvid, ")


def test_csv_has_every_column_of_every_run() -> None:
    found = list(csv.DictReader(io.StringIO(comparison_csv(ROWS))))
    assert [line["best_mIoU"] for line in found] == ["0.5", "0.5", "0.5", ""]
    assert found[0]["gain"] == "0.123"
    assert found[0]["run_key"] == ROWS[0].run_key


def test_two_runs_are_compared_by_parts_of_their_keys(
    store: Store, store_environment: dict[str, str], tmp_path: Path
) -> None:
    for key, shift in (("demo-a1", 0.05), ("demo-b2", 0.0)):
        put_run(store, key, HARD + shift)
        store.put_json(keys.run(key, "run.json"), make_record(key).model_dump(mode="json"))
    store.put_json(keys.job("job"), {"run_key": "demo-b2"})
    shown = cps("compare", "a1", "@last", folder=tmp_path, **store_environment)
    assert shown.returncode == 0, shown.stderr
    assert "demo-a1 is better than demo-b2 on these images" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    found = json.loads(cps("compare", "a1", "b2", "--json", folder=tmp_path, **store_environment).stdout)
    assert 0 < found["low"] < found["difference"] < found["high"]
    for arguments, said in (
        (["a1"], "compare takes no run or two runs, not 1"),
        (["a1", "demo-a1"], "are the same run, demo-a1: name two"),
        (["a1", "b2", "--csv"], "--csv is for the list of runs"),
        (["--json", "--csv"], "exclude each other"),
    ):
        refused = cps("compare", *arguments, folder=tmp_path, **store_environment)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert said in refused.stderr
