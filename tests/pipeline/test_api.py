"""The Python API of this machine: the options of a run, its reports and its errors; embedded services."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline import api


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"datset": "photos"},
            r"run has no option 'datset'; did you mean 'dataset'\?; it has dataset, dataset_sha256,",
        ),
        ({"labeled_ratio": "7/3"}, "7/3"),
        ({"epochs": "many"}, "epochs is 'many': it must be a whole number"),
        ({"overrides": {"optimization.lerning_rate": 0.1}}, "did you mean"),
        ({"dataset": "missing"}, "missing"),
        ({"recipe": "dmeo"}, "did you mean 'demo'"),
        ({"processes": 0}, "processes is 0"),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_starts(
    options: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(api.UserError, match=said) as error:
        api.run(**options)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_every_option_is_one_of_the_pipelines_parameters() -> None:
    from pipeline.parameters import local_request

    dag = local_request(**{**api._DEFAULTS, "eval_shards": 1}).as_dag()
    assert set(api.RunOptions.__annotations__) <= set(dag)


def test_reports_are_messages_and_progress() -> None:
    reports = list[api.Progress]()
    report = api._reporter(reports.append)
    report({"kind": "say", "step": "train", "text": "an epoch"})
    report({"kind": "advance", "step": "train", "done": 3, "total": 10, "note": "loss 0.5"})
    report({"kind": "result", "step": "train", "values": {}})
    assert reports == [api.Progress("train", "an epoch"), api.Progress("train", "loss 0.5", 3, 10)]


@pytest.mark.slow
def test_embedded_services_are_found_again_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.local.services import services_down

    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CPS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(api, "_set_by_connect", {})
    try:
        for _ in range(2):
            api.connect(tracking=False)
            assert api.list_runs() == []
            services_down(tmp_path / "home")
    finally:
        services_down(tmp_path / "home")
        for name in api._set_by_connect:
            os.environ.pop(name, None)
