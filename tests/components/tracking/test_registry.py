"""The champion of a dataset: a run takes the alias only where it is better, and says so."""

from typing import Any

import pytest

from components.tracking.client import open_run
from components.tracking.registry import NO_CHAMPION_TAG, model_name

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

DIGEST = "0123456789" * 6 + "abcd"
MODEL = "cps-scenes-01234567"


def score(run_key: str, miou: float, **tags: str) -> None:
    with open_run(run_key, "scenes", {"seed": "0"}) as tracker:
        tags = {"sha256": run_key * 8, **tags}
        tracker.register("scenes", DIGEST, f"s3://cps/weights/{run_key}", miou, tags, f"run {run_key}")
        assert tracker.close()


def champion(client: Any) -> tuple[str, str]:
    found = client.get_model_version_by_alias(MODEL, "champion")
    return found.tags["cps.run_key"], found.source


def test_the_champion_moves_to_what_is_better_only_and_it_is_said(
    client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_key, miou, best in [("a", 0.4, "a"), ("b", 0.3, "a"), ("c", 0.5, "c"), ("d", 0.5, "c")]:
        score(run_key, miou)
        assert champion(client) == (best, f"s3://cps/weights/{best}")
    assert capsys.readouterr().err.splitlines() == [
        f"[tracking] champion of {MODEL}: a, 40.0 % mIoU, the first",
        f"[tracking] champion of {MODEL} stays a, 40.0 % mIoU; this run: 30.0 % mIoU",
        f"[tracking] champion of {MODEL}: c, 50.0 % mIoU; before: a, 40.0 % mIoU",
        f"[tracking] champion of {MODEL} stays c, 50.0 % mIoU; this run: 50.0 % mIoU",
    ]
    versions = client.search_model_versions(f"name = '{MODEL}'")
    assert sorted(version.tags["cps.run_key"] for version in versions) == ["a", "b", "c", "d"]
    assert sorted(version.description for version in versions) == ["run a", "run b", "run c", "run d"]
    run = client.get_run(next(version.run_id for version in versions if version.tags["cps.run_key"] == "c"))
    assert run.data.tags["cps.run_key"] == "c"


def test_what_is_no_better_than_a_constant_is_a_version_but_no_champion(
    client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    score("a", 0.3, **{NO_CHAMPION_TAG: "true"})
    assert client.get_registered_model(MODEL).aliases == {}
    score("b", 0.2)
    assert champion(client)[0] == "b"
    assert capsys.readouterr().err.splitlines() == [
        f"[tracking] champion of {MODEL}: not a, 30.0 % mIoU, which is no better than a constant prediction",
        f"[tracking] champion of {MODEL}: b, 20.0 % mIoU, the first",
    ]
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2


def test_the_same_result_again_is_the_same_version(client: Any) -> None:
    for _ in range(2):
        score("a", 0.4)
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_a_champion_that_is_scored_again_does_not_keep_its_old_figure(client: Any) -> None:
    score("a", 0.4)
    score("a", 0.2)
    assert client.get_model_version_by_alias(MODEL, "champion").tags["mIoU"] == "0.2"
    score("b", 0.3)
    assert champion(client)[0] == "b"


def test_what_a_person_made_champion_stays(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    client.create_registered_model(MODEL)
    theirs = client.create_model_version(MODEL, "s3://elsewhere/model")
    client.set_registered_model_alias(MODEL, "champion", theirs.version)
    score("a", 0.4)
    assert champion_source(client) == "s3://elsewhere/model"
    assert "stays version 1, which was not registered by this pipeline" in capsys.readouterr().err


def champion_source(client: Any) -> str:
    return str(client.get_model_version_by_alias(MODEL, "champion").source)


def test_a_datasets_name_may_be_anything() -> None:
    assert model_name("it's: my / data", DIGEST) == "cps-it-s-my-data-01234567"


def test_a_dataset_is_an_input_once(client: Any) -> None:
    for _ in range(2):
        with open_run("a", "scenes", {"seed": "0"}) as tracker:
            tracker.log_dataset("scenes", DIGEST, "s3://cps/manifest.json", {"labeled": 2, "unlabeled": 14})
    [run] = client.search_runs([client.get_experiment_by_name("cps/scenes").experiment_id])
    [given] = client.get_run(run.info.run_id).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("scenes", DIGEST[:36])
    assert (given.dataset.source_type, given.dataset.source) == ("s3", '{"uri": "s3://cps/manifest.json"}')
    assert given.dataset.profile == '{"labeled": 2, "unlabeled": 14}'
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]
