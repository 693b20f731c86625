"""`cps matrix --cluster`, as a shell sees it: the server is kfp_server, the object store is a real one.

The server's runs train nothing: when one succeeds, the test splits the dataset as the pipeline's second step does, and
stores a result as the last ones do.
"""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from components.runs.record import DatasetRef
from components.runs.request import RunRequest, parse_overrides
from components.runs.result import ConfusionMatrix, RunResult
from components.runs.steps import StoredDataset, prepare_dataset, split_labels_step
from components.storage import keys
from components.storage.client import Store
from pipeline.cli.main import _run
from pipeline.cluster import status
from tests.pipeline.kfp_server import KfpServer
from tests.run_objects import make_best, make_checkpoint, make_result

pytestmark = pytest.mark.slow

Captured = pytest.CaptureFixture[str]
SCENES = "scenes:train=16,val=2,width=96,height=64"
MATRIX = ("matrix", "--cluster", "--dataset", SCENES)
ONE = (*MATRIX, "--ratios", "1/4", "--seeds", "1")


class Pipelines:
    """What the runs of a server leave in the store."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder

    def finish(self, run_id: str, parameters: dict[str, Any]) -> None:
        own = {name: value for name, value in parameters.items() if name in RunRequest.model_fields}
        request = RunRequest(**{**own, "overrides": parse_overrides(parameters["overrides"])})
        stored = prepare_dataset(request)
        run_key = split_labels_step(stored.digest, request, run_id)
        baseline = request.overrides.get("cps.weight") == 0
        found = result(request, stored, 0.5 if baseline else 0.53)
        self.store.put_json(keys.run(run_key, "result.json"), found.model_dump(mode="json"))


def result(request: RunRequest, stored: StoredDataset, mean_iou: float) -> RunResult:
    """Of a run, as far as a matrix reads it; seed 2 comes to two points more."""
    value = mean_iou + (0.02 if request.seed == 2 else 0.0)
    return make_result(
        "any",
        dataset=DatasetRef(digest=stored.digest, name=stored.name),
        images=stored.val,
        confusion_matrix=ConfusionMatrix(classes=stored.class_names, matrix=()),
        checkpoints=(make_checkpoint(1, ensemble=0.1), make_checkpoint(2, ensemble=value)),
        best=make_best(mIoU=value + 0.01),
    )


@pytest.fixture
def pipelines(
    kfp_server: KfpServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> Pipelines:
    request.getfixturevalue("store_environment")
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp_server.address)
    monkeypatch.setattr(status, "POLL_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    made = Pipelines(store, tmp_path)
    kfp_server.records.on_success = made.finish
    kfp_server.records.pace = 4
    return made


def cps(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    try:
        code = _run(arguments)
    except SystemExit as ended:
        code = int(str(ended.code))
    said = capsys.readouterr()
    return code, said.out, said.err


def asked(kfp_server: KfpServer) -> list[str]:
    """Of what the server was asked about runs, in order: make or look."""
    looks = {"POST": "make", "GET": "look"}
    return [looks[method] for method, path, _ in kfp_server.requests if "/runs" in path and "?" not in path]


def test_all_runs_go_on_at_once_and_their_figures_are_gathered(
    capsys: Captured, kfp_server: KfpServer, pipelines: Pipelines
) -> None:
    words = ("--ratios", "1/2,1/4", "--seeds", "2", "--baseline", "--gpus", "1", "--json", "-o", "study")
    code, out, err = cps(capsys, *MATRIX, *words)
    assert code == 0, err
    order = asked(kfp_server)
    assert order[:4] == ["make"] * 4
    assert set(order[4:]) == {"look"}
    sent = [body["runtime_config"]["parameters"] for body in kfp_server.made("runs")]
    assert [(one["labeled_ratio"], one["overrides"]) for one in sent] == [
        (ratio, overrides) for ratio in ("1/4", "1/2") for overrides in ('{"cps.weight": 0}', "{}")
    ]
    assert {(one["seed"], one["gpus"], one["predict_limit"]) for one in sent} == {(2, 1, 1)}
    assert kfp_server.made("runs")[0]["display_name"] == "scenes 1/4 seed 2 supervised"
    assert [gain["gain"] for gain in json.loads(out)["gains"]] == pytest.approx([0.03, 0.03])
    assert "[matrix] 1/4 ratio 1/4 seed 2 supervised: running: train" in err.splitlines()
    with (pipelines.folder / "study" / "matrix.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["labeled_ratio"], row["method"], row["labelled_images"], row["mIoU"]) for row in rows] == [
        ("1/4", "supervised", "4", "0.5200"),
        ("1/4", "cps", "4", "0.5500"),
        ("1/2", "supervised", "8", "0.5200"),
        ("1/2", "cps", "8", "0.5500"),
    ]


def test_the_same_again_finds_every_run_and_a_larger_one_adds_to_it(
    capsys: Captured, kfp_server: KfpServer, pipelines: Pipelines
) -> None:
    first = json.loads(cps(capsys, *ONE, "--baseline", "--json")[1])
    code, out, err = cps(capsys, *ONE, "--baseline", "--json")
    assert code == 0, err
    assert json.loads(out)["runs"] == first["runs"]
    assert len(kfp_server.made("runs")) == 2
    assert err.count(": found run ") == 2
    assert cps(capsys, *MATRIX, "--ratios", "1/4", "--seeds", "1,2")[0] == 0
    assert len(kfp_server.made("runs")) == 3
    # A result that is gone is made again.
    cps_run = first["runs"][1]  # the baseline comes first
    pipelines.store.remove(keys.run(cps_run["run_key"], "result.json"))
    assert cps(capsys, *ONE)[0] == 0
    assert len(kfp_server.made("runs")) == 4


def test_a_run_that_goes_on_is_followed_by_a_second_call(
    capsys: Captured, kfp_server: KfpServer, pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.cluster.matrix.follow_all", interrupted)
        code, _, err = cps(capsys, *ONE)
    assert code == 130
    assert "submitted runs continue; run the same command again to follow them" in err
    code, out, _ = cps(capsys, *ONE)
    assert code == 0
    assert len(kfp_server.made("runs")) == 1
    assert out.splitlines() == [f"matrix/matrix.{kind}" for kind in ("html", "svg", "csv")]
    assert (pipelines.folder / "matrix" / "matrix.html").read_text().count('<svg class="chart"') == 2


@pytest.mark.usefixtures("pipelines")
def test_no_more_runs_go_on_at_once_than_were_asked_for(capsys: Captured, kfp_server: KfpServer) -> None:
    assert cps(capsys, *ONE)[0] == 0  # one of the four, which is found and has ended
    code, out, err = cps(capsys, *MATRIX, "--ratios", "1/2,1/4", "--seeds", "1,2", "--parallel", "2", "--json")
    assert code == 0, err
    assert len(json.loads(out)["runs"]) == len(kfp_server.made("runs")) == 4
    lines = err.splitlines()
    numbers = {what: [line.split()[1] for line in lines if what in line] for what in (": submitted", ": done")}
    assert numbers[": submitted"] == ["2/4", "3/4", "4/4"], "in the order of the cells"
    going_on, most = 0, 0
    for line in lines:
        going_on += (": submitted" in line) - (line.endswith(": done") and "1/4 ratio" not in line)
        most = max(most, going_on)
    assert most == 2


def interrupted(*_arguments: Any, **_named: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("pipelines")
def test_a_run_that_fails_is_named_and_tried_again_by_the_same_command(capsys: Captured, kfp_server: KfpServer) -> None:
    assert cps(capsys, *ONE)[0] == 0
    both = (*MATRIX, "--ratios", "1/4", "--seeds", "1,2")
    kfp_server.records.failing = "select"
    code, out, err = cps(capsys, *both, "--json")
    assert code == 1
    assert len(json.loads(out)["runs"]) == 1, "what is there is shown"
    failed = "cps: error: ratio 1/4 seed 2 cps: run scenes 1/4 seed 2 cps failed in step 'select'; see its log"
    assert any(line.startswith(failed) for line in err.splitlines())
    assert err.splitlines()[-1] == "cps: run the same command again to resume"
    kfp_server.records.failing = ""
    code, out, err = cps(capsys, *both, "--json")
    assert code == 0, err
    assert len(json.loads(out)["runs"]) == 2
    assert len(kfp_server.made("runs")) == 3


def test_a_store_that_is_not_the_clusters_is_said(
    capsys: Captured, kfp_server: KfpServer, pipelines: Pipelines
) -> None:
    kfp_server.records.on_success = None
    code, out, err = cps(capsys, *ONE)
    assert (code, out) == (1, "")
    bucket = pipelines.store.settings.bucket
    assert f"is done, but bucket '{bucket}' at {pipelines.store.settings.endpoint} does not contain its result" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--cluster", "--dataset", "photos/"], "dataset 'photos/' is a path on this machine"),
        (
            ["--cluster", "--baseline", "--set", "cps.weight=0"],
            "the baseline is the recipe with cps.weight=0, which the settings already set",
        ),
        (["--gpus", "1"], "--gpus needs --cluster"),
        (["-n", "team-a"], "--namespace needs --cluster"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("pipelines")
def test_a_mistake_is_2_and_nothing_is_sent(
    arguments: list[str], named: str, capsys: Captured, kfp_server: KfpServer
) -> None:
    code, out, err = cps(capsys, "matrix", *arguments)
    assert (code, out) == (2, "")
    assert named in err
    assert len(err.splitlines()) == 1
    assert kfp_server.requests == []


def test_without_a_store_to_read_nothing_is_sent(
    capsys: Captured, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp_server.address)
    code, _, err = cps(capsys, "matrix", "--cluster")
    assert code == 2
    assert "reads scores from the cluster's object store: set AWS_ENDPOINT_URL" in err
    assert kfp_server.requests == []
