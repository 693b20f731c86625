"""`cps open`, `cps logs` and `cps doctor`: what they print, and how they refuse."""

import json
import os
import time
from pathlib import Path
from typing import Any

import click
import pytest

from components.storage import keys
from components.storage.client import Store
from pipeline.local import jobs
from pipeline.local.health import Finding, examine
from pipeline.local.jobs import JobNote
from tests.pipeline.in_process import cps
from tests.run_objects import make_record

NO_DISPLAY = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": ""}
LOG = """\
10:00:00.000 - INFO - Executing task \x1b[96m'split-labels'\x1b[0m
a split
[split-labels] demo-1: 4 labelled
10:00:01.000 - INFO - Executing task \x1b[96m'train'\x1b[0m
an epoch
[prepare-dataset] late
"""


@pytest.fixture
def run(store: Store) -> str:
    store.put_json(keys.run("demo-1", "run.json"), make_record("demo-1").model_dump(mode="json"))
    store.put_json(keys.job("job"), {"run_key": "demo-1"})
    return "demo-1"


def test_pages_are_downloaded_and_their_paths_printed(
    run: str, store: Store, store_environment: dict[str, str], tmp_path: Path
) -> None:
    store.put_bytes(keys.run(run, "report.html"), b"the report")
    for batch, gallery in (("val-1", b"old"), ("val-2", b"new")):
        store.put_bytes(keys.prediction(run, batch, "gallery.html"), gallery)
        time.sleep(1.1 if batch == "val-1" else 0)  # the store's times are in whole seconds
    for arguments, content in (([], "the report"), ([run], "the report"), (["@last", "gallery"], "new")):
        shown = cps(
            "open", *arguments, folder=tmp_path, **store_environment, DISPLAY="", WAYLAND_DISPLAY="", BROWSER=""
        )
        assert shown.returncode == 0, shown.stderr
        assert Path(shown.stdout.strip()).read_text() == content


def test_a_display_shows_the_page(
    run: str, store: Store, store_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[str]()
    monkeypatch.setattr("webbrowser.open", opened.append)
    store.put_bytes(keys.run(run, "report.html"), b"the report")
    cps("open", folder=tmp_path, **store_environment, DISPLAY=":0")
    [address] = opened
    assert address.startswith("file://")
    assert address.endswith(f"/runs/{run}/report.html")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report"], "run demo-1 has no report yet: `cps run --resume demo-1` finishes it"),
        (["gallery"], "has no gallery yet"),
        (["demo-1", "reprot"], "'reprot' is too much; did you mean 'report'?"),
        (["@frist"], "'@frist' is not one of @last, @best, @champion"),
    ],
)
@pytest.mark.usefixtures("run")
def test_a_page_that_is_not_there_is_one_line(
    arguments: list[str], said: str, store_environment: dict[str, str], tmp_path: Path
) -> None:
    ended = cps("open", *arguments, folder=tmp_path, **store_environment)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_the_dataset_is_checked_from_the_store_where_its_source_is_not_at_hand(
    run_key: str, store: Store, store_environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = {**store_environment, **NO_DISPLAY, "CPS_CACHE": str(tmp_path / "cache"), "CPS_WORK": str(tmp_path)}
    for source in ("", "scenes", str(tmp_path / "removed")):
        note = folder / ".cps" / "runs" / run_key / "source.txt"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(source)
        shown = cps("open", run_key, "check", folder=folder, **environment)
        assert shown.returncode == 0, shown.stderr
        page = Path(shown.stdout.strip()).read_text()
        assert f"{store.settings.bucket}/datasets/" in page
        assert "data:image/" in page
    assert not list(tmp_path.glob("dataset-*")), "the extracted files are removed"


def test_a_log_is_printed_whole_or_for_one_step(run: str, store_environment: dict[str, str], tmp_path: Path) -> None:
    missing = cps("logs", run, folder=tmp_path, **store_environment)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "run `cps logs` where the run was started, or set CPS_HOME" in missing.stderr
    log = tmp_path / "run.log"
    log.write_text(LOG)
    note = JobNote(tmp_path / ".cps", log, "photos/")
    note.write(run, "scenes")
    note.remove()
    whole = cps("logs", run, folder=tmp_path, **store_environment)
    assert whole.stdout == click.unstyle(LOG), "colours are for terminals"
    one = cps("logs", run, "train", "-f", folder=tmp_path, **store_environment).stdout
    assert one.splitlines()[1:] == ["an epoch"]
    wrong = cps("logs", run, "trian", folder=tmp_path, **store_environment)
    assert wrong.returncode == 2
    assert "'trian' is not a step; did you mean 'train'?" in wrong.stderr
    assert jobs.source_of(tmp_path / ".cps", run) == "photos/"


def test_the_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.local.health._paddle", lambda: Finding("Paddle", "ok", "3.3"))
    ended = cps("doctor", "--json", folder=tmp_path, CPS_CACHE=str(tmp_path / "cache"), PATH=os.environ["PATH"])
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    whats = [finding["what"] for finding in found]
    assert list(dict.fromkeys(whats)) == [
        "Python",
        "Paddle",
        "memory",
        "disk",
        "object store",
        "port",
        "MLflow",
        "proxy",
        "clock",
        "KFP server",
    ]
    assert list(tmp_path.iterdir()) == [], "it changes nothing"
    broken = cps(
        "doctor",
        folder=tmp_path,
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
        MLFLOW_TRACKING_URI="127.0.0.1:5000",
        CPS_CACHE="/proc/cache",
    )
    assert broken.returncode == 1
    said = " ".join(broken.stdout.split())
    assert "does not answer" in said
    assert "MLFLOW_TRACKING_URI='127.0.0.1:5000' is not an address: write it as http://host:port" in said
    assert "/proc/cache cannot be written. Set CPS_CACHE to another folder." in said
    assert max(len(line) for line in broken.stdout.splitlines() if str(tmp_path) not in line) <= 80


def test_a_kfp_server_is_only_missed_where_one_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.errors import UserError

    def refuse() -> str:
        raise UserError("no KFP server")

    monkeypatch.setattr("pipeline.local.health._paddle", lambda: Finding("Paddle", "ok", "3.3"))
    for name in ("KF_PIPELINES_ENDPOINT", "KUBECONFIG", "AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert [*examine(tmp_path, refuse)][-1] == Finding("KFP server", "note", "no KFP server")
    monkeypatch.setenv("KUBECONFIG", "config")
    assert [*examine(tmp_path, refuse)][-1].state == "wrong"
