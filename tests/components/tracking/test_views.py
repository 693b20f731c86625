"""The view of an experiment's runs that links open, and the links."""

import json
from typing import Any

import pytest

from components.storage import keys
from components.storage.client import Store
from components.tracking.address import VIEW, run_page, runs_page
from components.tracking.published import experiment_link
from components.tracking.server import open_experiment

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def test_an_experiment_that_exists_gets_the_view_and_keeps_its_own_tags(client: Any) -> None:
    older = json.dumps({"orderByKey": "metrics.`mIoU`", "selectedColumns": []})
    client.create_experiment(
        "cps/scenes", tags={"mlflow.experimentKind": "theirs", f"mlflow.sharedViewState.{VIEW}": older}
    )
    tags = client.get_experiment(open_experiment(client, "cps/scenes").experiment_id).tags
    assert tags["mlflow.experimentKind"] == "theirs"
    view = json.loads(tags[f"mlflow.sharedViewState.{VIEW}"])
    assert view["orderByKey"] == view["selectedColumns"][0] == "metrics.`best_mIoU`"
    assert view["orderByAsc"] is False
    assert view["selectedColumns"][:7] == [
        "metrics.`best_mIoU`",
        "metrics.`best_mIoU_low`",
        "metrics.`best_mIoU_high`",
        "tags.`labeled_ratio`",
        "tags.`method`",
        "tags.`seed`",
        "metrics.`steps`",
    ], "also in a view that an earlier version has made"


def test_a_result_links_to_the_runs_of_its_experiment(store: Store) -> None:
    address = "http://127.0.0.1:5000"
    assert experiment_link(store, "demo", address) == address, "not published yet"
    store.put_json(keys.run("demo", "published.json"), {"page": run_page("7", "abc")})
    assert experiment_link(store, "demo", address) == f"{address}/{runs_page('7')}"
    assert experiment_link(store, "demo", "databricks") == "databricks"
