"""MLflow's own pages of our runs, on a real server and in a real browser: what they show of two runs side by side."""

import json
import re
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from components.tracking.address import runs_page
from components.tracking.client import open_run
from components.tracking.server import connect
from pipeline.local.services import services_down, services_up, wait_tracking
from tests.browser.test_pages import PICTURES, browser

RUNS = {"demo-1-16-s0-0123456789ab": ("1/16", 0.3125), "demo-1-2-s0-ba9876543210": ("1/2", 0.4375)}
NAMES = ("1/16 s0 cps demo 012345", "1/2 s0 cps demo ba9876")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow with two runs of one dataset, as our steps log them."""
    home = tmp_path_factory.mktemp("home")
    services_up(home)
    address = wait_tracking(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        for run_key, (ratio, miou) in RUNS.items():
            tags = {"recipe": "demo", "labeled_ratio": ratio, "seed": "0", "method": "cps", "dataset": "scenes"}
            with open_run(run_key, "scenes", {"recipe": "demo", "labeled_ratio": ratio, "seed": "0"}, tags) as tracker:
                for epoch in (1, 2, 3):
                    tracker.log_checkpoint(epoch, 10 * epoch, f"s3://cps/{epoch}", {"mIoU": miou * epoch / 3})
                tracker.log(3, {"best_mIoU": miou})
                assert tracker.finish("FINISHED")
    yield address
    services_down(home)


@pytest.fixture(scope="module")
def ids(address: str) -> tuple[str, list[str]]:
    """The experiment, and its runs in the order of RUNS."""
    client: Any = connect(address)
    experiment = client.get_experiment_by_name("cps/scenes").experiment_id
    by_key = {run.data.tags["cps.run_key"]: run.info.run_id for run in client.search_runs([experiment])}
    return experiment, [by_key[run_key] for run_key in RUNS]


def test_the_comparison_shows_both_runs_with_their_ratios_and_figures(
    address: str, ids: tuple[str, list[str]], tmp_path: Path
) -> None:
    experiment, runs = ids
    page = f"{address}/#/compare-runs?runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([experiment]))}"
    text = shown(page, tmp_path, "mlflow-comparison")
    for name, (ratio, miou) in zip(NAMES, RUNS.values(), strict=True):
        assert name in text
        assert ratio in text
        assert f"{miou:g}"[:5] in text
    assert "best_mIoU" in text


def test_the_printed_view_has_the_figures_as_columns_and_the_best_run_first(
    address: str, ids: tuple[str, list[str]], tmp_path: Path
) -> None:
    text = shown(f"{address}/{runs_page(ids[0])}", tmp_path, "mlflow-view")
    assert "Error loading shared view state" not in text
    for column in ("best_mIoU", "labeled_ratio", "method", "seed"):
        assert column in text
    assert text.index(NAMES[1]) < text.index(NAMES[0])


def test_an_experiment_opens_with_its_runs(address: str, ids: tuple[str, list[str]], tmp_path: Path) -> None:
    text = shown(f"{address}/#/experiments/{ids[0]}/runs", tmp_path, "mlflow-experiment")
    assert "cps/scenes" in text
    for name in NAMES:
        assert name in text


def test_the_link_that_a_run_prints_shows_it_beside_the_other_runs(address: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        with open_run(next(iter(RUNS)), "scenes", {}) as tracker:
            assert tracker.wait(60)
            page = tracker.url
    text = shown(page, tmp_path, "mlflow-run")
    assert NAMES[0] in text
    assert "Model registry" in text
    assert "Prompts" not in text, "what a language model has"


def shown(page: str, scratch: Path, name: str) -> str:
    """The words on a page when its scripts have loaded what they want; a picture of it stays in build/pages."""
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1600,1200"),
        *("--virtual-time-budget=30000", f"--user-data-dir={scratch / 'profile'}"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    PICTURES.mkdir(parents=True, exist_ok=True)
    subprocess.run([browser(), *options, f"--screenshot={PICTURES / f'{name}.png'}", page], check=True, timeout=120)
    opened = subprocess.run(
        [browser(), *options, "--dump-dom", page], capture_output=True, text=True, check=True, timeout=120
    )
    without_code = re.sub(r"<(script|style)\b.*?</\1>", " ", opened.stdout, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", without_code)).split())
