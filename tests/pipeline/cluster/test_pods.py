"""Why a run's pods are waiting, as `--watch` tells it: the API server is a small one, the client is the real one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from pipeline.cli.main import _run
from pipeline.cluster import pods, status
from pipeline.cluster.pods import WaitingPods
from pipeline.cluster.status import RunStatus, StepStatus
from tests.pipeline.kfp_server import KfpServer

FULL = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available."
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": FULL}
PULLING = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "cps:1"'}}
STATUSES = {
    "train": {"phase": "Pending", "conditions": [UNSCHEDULABLE]},
    "launcher": {"phase": "Pending", "initContainerStatuses": [{"name": "init", "state": PULLING}]},
    "starting": {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "PodInitializing"}}}]},
    "running": {"containerStatuses": [{"name": "main", "state": {"running": {}}}]},
}


class Kubernetes(BaseHTTPRequestHandler):
    """Lists the pods of a namespace and a label, as a real one does, to who has the token."""

    pods: list[dict[str, Any]]
    asked: list[str]
    refuse = 0

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.asked.append(self.path)
        code = self.refuse or (200 if self.headers["Authorization"] == "Bearer a-token" else 401)
        [selector] = parse_qs(parts.query)["labelSelector"]
        label, _, value = selector.partition("=")
        found = [pod for pod in self.pods if pod["metadata"]["labels"].get(label) == value]
        of_namespace = parts.path == "/api/v1/namespaces/team-a/pods"
        body = json.dumps({"items": found if of_namespace else []} if code == 200 else {"code": code}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: pytest shows what matters."""


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Kubernetes]]:
    """The API server that the kubeconfig names."""
    handler = type("Handler", (Kubernetes,), {"pods": [], "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        kubeconfig = {
            "current-context": "kind",
            "contexts": [{"name": "kind", "context": {"cluster": "kind", "user": "me"}}],
            "clusters": [{"name": "kind", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "me", "user": {"token": "a-token"}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
        monkeypatch.setattr(pods, "EVERY_SECONDS", 0.0)
        yield handler
        server.shutdown()


def run(state: str = "RUNNING", step: str = "PENDING") -> RunStatus:
    return RunStatus("run-1", "a run", state, "e", "", "", "", {}, (StepStatus("train", step, 0.0, 0, 1),))


def pod(name: str, run_id: str = "run-1") -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"pipeline/runid": run_id}}, "status": STATUSES[name]}


def test_the_pods_of_the_run_that_cannot_start_are_named(kubernetes: type[Kubernetes]) -> None:
    kubernetes.pods = [*map(pod, STATUSES), pod("train", "of another run")]
    found = WaitingPods("team-a", "run-1").added_to(run())
    assert found.waiting == (
        f"pod train is waiting: {FULL}",
        'pod launcher is waiting: ImagePullBackOff: Back-off pulling image "cps:1"',
    )
    assert WaitingPods(None, "run-1").added_to(run()).waiting == ()
    assert "/namespaces/kubeflow/pods?" in kubernetes.asked[-1]


def test_a_run_that_has_ended_is_not_asked_about(kubernetes: type[Kubernetes]) -> None:
    assert WaitingPods("team-a", "run-1").added_to(run("FAILED")).waiting == ()
    assert kubernetes.asked == []


def test_kubernetes_is_not_asked_all_the_time(kubernetes: type[Kubernetes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "EVERY_SECONDS", 60.0)
    kubernetes.pods = [pod("train")]
    waiting = WaitingPods("team-a", "run-1")
    assert waiting.added_to(run()).waiting == waiting.added_to(run()).waiting != ()
    assert len(kubernetes.asked) == 1


def test_who_may_not_list_pods_learns_how_to_look(
    kubernetes: type[Kubernetes], monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes.refuse = 403
    waiting = WaitingPods("team-a", "run-1")
    assert waiting.added_to(run()).waiting == ()
    monkeypatch.setattr(pods, "IDLE_SECONDS", -1.0)
    assert waiting.added_to(run(step="RUNNING")).waiting != ()
    [hint] = waiting.added_to(run()).waiting
    assert hint == (
        "no step is running; `kubectl -n team-a describe pods -l pipeline/runid=run-1` shows why the pods are waiting "
        "(the kubeconfig's user may not list pods in team-a)"
    )
    assert len(kubernetes.asked) == 1


def test_a_kubeconfig_of_another_cluster_is_noticed(
    kubernetes: type[Kubernetes], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = WaitingPods("team-a", "run-1")
    assert waiting.added_to(run()).waiting == ()
    monkeypatch.setattr(pods, "IDLE_SECONDS", -1.0)
    [hint] = waiting.added_to(run()).waiting
    assert hint.endswith("shows why the pods are waiting (the kubeconfig's cluster has no pods of this run in team-a)")
    kubernetes.pods = [pod("train")]
    assert waiting.added_to(run()).waiting == (f"pod train is waiting: {FULL}",)


def test_without_a_kubeconfig_the_hint_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.setattr(pods, "IDLE_SECONDS", -1.0)
    [hint] = WaitingPods(None, "run-1").added_to(run()).waiting
    assert hint.endswith("shows why the pods are waiting (this machine has no kubeconfig)")


def test_a_cluster_that_is_away_for_a_moment_is_asked_again(kubernetes: type[Kubernetes]) -> None:
    kubernetes.pods, kubernetes.refuse = [pod("train")], 503
    waiting = WaitingPods("team-a", "run-1")
    assert waiting.added_to(run()).waiting == ()
    kubernetes.refuse = 0
    assert waiting.added_to(run()).waiting != ()


def test_watch_says_it_once(
    kfp_server: KfpServer,
    kubernetes: type[Kubernetes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp_server.address)
    monkeypatch.setattr(status, "POLL_SECONDS", 0.0)
    create = kfp_server.records.create_run

    def created(given: dict[str, Any]) -> dict[str, Any]:
        made = create(given)
        kubernetes.pods = [pod("train", made["run_id"])]
        return made

    monkeypatch.setattr(kfp_server.records, "create_run", created)
    assert _run(["submit", "--watch", "-n", "team-a"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said.count(f"[run] pod train is waiting: {FULL}") == 1
