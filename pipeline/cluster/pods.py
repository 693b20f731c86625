"""Why the pods of a run are waiting. KFP does not report it; Kubernetes does, if the kubeconfig gives access."""

import json
import time
from dataclasses import replace
from typing import Any

from components.training.multi_node.pods import waiting_reason
from pipeline.cluster.status import RunStatus

LABEL = "pipeline/runid"
"""KFP puts this label, with the run's id, on every pod of a run."""
DEFAULT_NAMESPACE = "kubeflow"
"""The namespace in which a standalone KFP runs its pods."""
EVERY_SECONDS = 10.0
IDLE_SECONDS = 60.0
"""How long no step may run before a hint, where the pods cannot be read."""
TIMEOUT = (3.0, 10.0)
"""Seconds to connect, and to wait for data."""


class WaitingPods:
    """Adds to each status of a run why its pods are waiting."""

    def __init__(self, namespace: str | None, run_id: str) -> None:
        self._namespace = namespace or DEFAULT_NAMESPACE
        self._selector = f"{LABEL}={run_id}"
        self._api: Any = None
        self._unseen, self._asks = "", True
        """Why no pod is seen, if so, and whether to ask again."""
        self._found: tuple[str, ...] = ()
        self._asked = -EVERY_SECONDS
        self._active = time.monotonic()

    def added_to(self, status: RunStatus) -> RunStatus:
        """Add to the status's field `waiting`. Asks Kubernetes at most every EVERY_SECONDS, and never raises."""
        now = time.monotonic()
        if status.ended:
            return status
        if any(step.state == "RUNNING" for step in status.steps):
            self._active = now
        if self._asks and now - self._asked >= EVERY_SECONDS:
            self._asked, self._found = now, self._ask()
        if self._unseen and now - self._active > IDLE_SECONDS:
            command = f"kubectl -n {self._namespace} describe pods -l {self._selector}"
            self._found = (f"no step is running; `{command}` shows why the pods are waiting ({self._unseen})",)
        return replace(status, waiting=(*status.waiting, *self._found))

    def _ask(self) -> tuple[str, ...]:
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        try:
            self._api = self._api or _connect()
            answer = self._api.list_namespaced_pod(
                self._namespace, label_selector=self._selector, _request_timeout=TIMEOUT, _preload_content=False
            )
            pods = json.loads(answer.data)["items"]
        except ConfigException:
            self._unseen, self._asks = "this machine has no kubeconfig", False
        except ApiException as error:
            if error.status in (401, 403):
                self._unseen, self._asks = f"the kubeconfig's user may not list pods in {self._namespace}", False
        except (HTTPError, OSError, ValueError, KeyError):
            pass  # the cluster may answer the next time
        else:
            self._unseen = "" if pods else f"the kubeconfig's cluster has no pods of this run in {self._namespace}"
            reasons = {str(pod["metadata"]["name"]): waiting_reason(pod) for pod in pods}
            return tuple(f"pod {name} is waiting: {reason}" for name, reason in reasons.items() if reason)
        return ()


def _connect() -> Any:
    """Return a client for the current cluster, found like kubectl and kfp.Client do. Raises ConfigException."""
    from kubernetes import client, config

    settings = client.Configuration()
    settings.retries = False
    try:  # config.load_config does the same, and prints
        config.load_kube_config(client_configuration=settings)
    except config.ConfigException:
        config.load_incluster_config(client_configuration=settings)
    return client.CoreV1Api(client.ApiClient(settings))
