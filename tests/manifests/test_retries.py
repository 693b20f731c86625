"""The patch of Argo's controller: what Kubeflow Pipelines sets stays, and steps that ask for retries get them."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
KUBECTL = REPOSITORY / "build/ci-tools/bin/kubectl"
PATCH = REPOSITORY / "manifests/overlays/kubeflow-pipelines/retries.yaml"
BEFORE = Path(__file__).with_name("kubeflow_pipelines.yaml")

ASKS = {"limit": "3", "backoff": {"duration": "30", "factor": "2", "maxDuration": "31536000"}}
"""The retryStrategy that Kubeflow Pipelines' compiler makes of set_retry."""


def overlay() -> dict[str, Any]:
    built = Path(os.environ["CPS_TEST_MANIFESTS"], "kubeflow-pipelines", "built.yaml")
    return dict(yaml.safe_load(built.read_text()))


def patched() -> dict[str, Any]:
    """As the guide patches an existing installation."""
    command: list[str | Path] = [KUBECTL, "patch", "--local", "-f", BEFORE, "--type", "merge", "--patch-file", PATCH]
    done = subprocess.run([*command, "-o", "yaml"], capture_output=True, text=True, check=True)
    return dict(yaml.safe_load(done.stdout))


@pytest.mark.parametrize("made", [overlay, patched])
def test_only_retries_change(made: Any) -> None:
    before, after = yaml.safe_load(BEFORE.read_text())["data"], made()["data"]
    defaults, kept = (yaml.safe_load(data.pop("workflowDefaults"))["spec"] for data in (after, before))
    assert after == before
    assert defaults["ttlStrategy"] == kept["ttlStrategy"]
    strategy = defaults["templateDefaults"]["retryStrategy"]
    # Argo merges the defaults into every template, whose own fields win: a step's, and also a DAG's, which has none.
    assert {**strategy, **ASKS} == {**ASKS, "retryPolicy": "Always"}
    assert strategy["limit"] == "0", "a DAG that is retried repeats all of its steps"
