"""The client over plain HTTP does on a real server what MLflow's own client does."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from components.errors import UserError
from components.tracking import rest
from components.tracking.registry import champion_key, register
from components.tracking.rest import RequestRefused, RestClient, is_plain
from components.tracking.server import ServedRun, connect, open_served_run
from components.tracking.values import Point, RunIdentity

if TYPE_CHECKING:
    from components.tracking.full import FullClient

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

ADDRESS = "http://mlflow.example:5000"


@pytest.fixture(autouse=True)
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)


@pytest.mark.slow
def test_both_clients_leave_the_same(tracking_server: Any, tmp_path: Path) -> None:
    from components.tracking.full import FullClient  # imports MLflow

    tracking_server.start()
    tracking_server.wait()
    address, page = tracking_server.address, tmp_path / "the report.html"
    page.write_text("<h1>45 %</h1>")
    client, full = connect(address), FullClient(tracking_uri=address)
    assert isinstance(client, RestClient)
    left = []
    for name, used in (("a", client), ("b", full)):
        _log(used, name, page)
        left.append(_all_that_is_left(full, name))
    assert left[0] == left[1]
    assert champion_key(address, "c-a", "0" * 64) == "key-2-a"
    assert [entry.experiment_id for entry in client.search_experiments()] == [
        entry.experiment_id for entry in full.search_experiments()
    ]
    with pytest.raises(RequestRefused, match=r"HTTP 404: .*nowhere") as refused:
        client.get_registered_model("nowhere")
    assert refused.value.get_http_status_code() == 404
    with pytest.raises(RequestRefused, match="HTTP 400"):
        client.log_values("", points=[Point("loss", 1.0, 1)])


def _log(client: Any, name: str, page: Path) -> None:
    """Do all that a run does, resumed, with a model better than the first one."""
    for number, miou in ((1, 0.3), (2, 0.4)):
        identity = RunIdentity(
            f"key-{number}-{name}", f"e-{name}", {"epochs": "3"}, {"seed": "1", "note": "ä" * 6000}, 7
        )
        run = open_served_run(client, identity, works=True)
        run.log([Point("loss", 0.5, 1, 1000), Point("loss", math.nan, 2, 2000), Point("up", math.inf, 1, 1000)])
        run.set_status("KILLED", 5000)
        resumed = open_served_run(client, identity, works=True)
        assert (resumed.run_id, resumed.resumed) == (run.run_id, True)
        assert client.search_runs([run.experiment_id], "attributes.status = 'RUNNING'", max_results=9)[
            0
        ].info.run_id == (run.run_id)
        resumed.log([Point("loss", 0.25, 3, 3000), Point("loss", 9.0, 1, 9000)])
        model = resumed.log_checkpoint(3, [Point("mIoU", miou, 3, 3000)], {"uri": "s3://cps/a"})
        assert resumed.log_checkpoint(3, [], {}) == model, "it is found again"
        resumed.log_dataset("photos", "d" * 64, "s3://cps/d", {"train": 4})
        resumed.log_artifact(page, "pages")
        resumed.set_tags({f"tag-{index}": "1" for index in range(150)})
        tags = {"cps.run_key": identity.run_key, "mIoU": str(miou)}
        register(resumed, f"cps-c-{name}-00000000", f"s3://cps/{number}", tags, "the best")
        register(resumed, f"cps-c-{name}-00000000", f"s3://cps/{number}", tags, "the best")
        resumed.set_status("FINISHED", 8000)


def _all_that_is_left(full: "FullClient", name: str) -> list[object]:
    experiment = full.get_experiment_by_name(f"e-{name}")
    assert experiment is not None
    left: list[object] = [dict(experiment.tags)]
    for run in full.search_runs([experiment.experiment_id], order_by=["tags.`cps.run_key`"]):
        own = ServedRun(full, experiment.experiment_id, run.info.run_id, resumed=True)
        histories = [full.get_metric_history(own.run_id, key) for key in ("loss", "up", "mIoU")]
        left.append([(point.key, repr(point.value), point.step, point.timestamp) for h in histories for point in h])
        left.append([run.info.status, run.info.start_time, run.info.end_time, run.data.params])
        left.append({key: value.replace(f"-{name}", "") for key, value in run.data.tags.items()})
        left.append([(d.dataset.to_dictionary(), dict(t for t in d.tags)) for d in run.inputs.dataset_inputs])
        left.append([(f.path, f.file_size) for f in full.list_artifacts(own.run_id, "pages")])
        models = full.search_logged_models([experiment.experiment_id], f"source_run_id = '{own.run_id}'")
        left.append([(m.name, str(m.status), m.params, m.model_type, [x.value for x in m.metrics]) for m in models])
    versions = full.search_model_versions(f"name = 'cps-c-{name}-00000000'")
    left.append([(str(v.version), v.source, v.description, v.aliases, v.tags["mIoU"]) for v in versions])
    return left


@pytest.mark.parametrize(
    ("address", "variable"),
    [
        ("https://mlflow.example", ""),
        ("http://me:secret@mlflow.example", ""),
        ("sqlite:///mlflow.db", ""),
        ("databricks", ""),
        (ADDRESS, "MLFLOW_TRACKING_TOKEN"),
        (ADDRESS, "MLFLOW_TRACKING_AUTH"),
        (ADDRESS, "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"),
        (ADDRESS, "MLFLOW_WORKSPACE"),
        (ADDRESS, "MLFLOW_REGISTRY_URI"),
        (ADDRESS, "HTTP_PROXY"),
    ],
)
def test_what_needs_more_than_plain_http_is_left_to_mlflow(
    address: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    if variable:
        monkeypatch.setenv(variable, "http://proxy.example:1")
    assert not is_plain(address)


def test_credentials_and_plug_ins_are_left_to_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert is_plain(ADDRESS)
    with monkeypatch.context() as patch:
        patch.setattr(rest, "entry_points", lambda group: [group])
        assert not is_plain(ADDRESS)
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text("[mlflow]\n")
    assert not is_plain(ADDRESS)


def test_a_timeout_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon")
    with pytest.raises(UserError, match="MLFLOW_HTTP_REQUEST_TIMEOUT='soon' is not a whole number"):
        RestClient(ADDRESS)


def test_a_plain_server_needs_no_import_of_mlflow() -> None:
    code = f"""
import sys
from components.tracking import client, delivery, registry, search
from components.tracking.server import connect
assert type(connect({ADDRESS!r})).__name__ == "RestClient"
sys.exit("mlflow" in sys.modules)
"""
    clean = {"PYTHONPATH": ":".join(sys.path), "HOME": "/nonexistent"}
    subprocess.run([sys.executable, "-c", code], env=clean, check=True)
