"""A small client for the Kubernetes API, with the pod's own credentials.

The official client is not in the images: it would add 16 MB of generated code for six requests.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from components.errors import UserError, WorkFailed

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
PATIENCE = 120.0
"""Seconds to retry a request while the API does not answer, for example while its server is replaced."""
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)

Object = dict[str, Any]
"""A Kubernetes object, as its API sends and receives it."""
WATCH_SECONDS = 60
SILENCE_SECONDS = WATCH_SECONDS + 15.0
PAUSE_SECONDS, POLL_SECONDS = 1.0, 5.0
AWAY_SECONDS = 1800.0
"""How long a watch tolerates an unreachable API; the training continues without it."""


class Unreachable(WorkFailed):
    """The API did not answer, or asked to retry later."""


class Rejected(WorkFailed):
    """The API rejected the request."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Cluster:
    """A Kubernetes API: its address, a namespace, and a service account."""

    address: str
    namespace: str
    account: Path
    """Folder with ca.crt and `token`, which Kubernetes rotates."""

    def path(self, group: str, kind: str, *name: str) -> str:
        """Return the path of a collection or object in the namespace, such as path("api/v1", "pods", NAME, "log")."""
        return "/".join(["", group, "namespaces", self.namespace, kind, *name])

    def get(self, path: str, query: Mapping[str, str] | None = None, *, patience: float = PATIENCE) -> Object:
        return self._insist("GET", path, query or {}, None, patience)

    def create(self, path: str, body: Object) -> Object:
        """Create an object. Raises Rejected with status 409 if it exists, perhaps from an interrupted attempt."""
        return self._insist("POST", path, {"fieldValidation": "Strict"}, body, PATIENCE)

    def delete(self, path: str, uid: str, *, patience: float = PATIENCE) -> None:
        """Start to delete the object with this uid and everything it owns; do nothing if it does not exist."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid},
        }
        try:
            self._insist("DELETE", path, {}, options, patience)
        except Rejected as error:
            if error.status not in (404, 409):  # already gone, or another object has the name
                raise

    def lines(self, path: str, query: Mapping[str, str], *, silence: float) -> Iterator[bytes]:
        """Yield the lines of a streamed response until it ends.

        Raises Rejected, and Unreachable if the connection breaks or is silent for `silence` seconds.
        """
        with _pool(self) as pool:
            response = self._send(pool, "GET", path, query, None, urllib3.Timeout(CONNECT_SECONDS, silence))
            rest = b""
            try:
                for part in response.stream(1 << 14):
                    *whole, rest = (rest + part).split(b"\n")
                    yield from whole
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise Unreachable(f"{self.address}{path}: {error}") from error
            finally:
                response.close()
            if rest:
                yield rest

    def _insist(self, method: str, path: str, query: Mapping[str, str], body: Object | None, patience: float) -> Object:
        deadline = time.monotonic() + patience
        for attempt in range(1 << 30):
            try:
                with _pool(self) as pool:
                    answer = self._send(pool, method, path, query, body, urllib3.Timeout(CONNECT_SECONDS, READ_SECONDS))
                    return dict(json.loads(answer.read()))
            except (Unreachable, urllib3.exceptions.HTTPError, ValueError) as error:
                pause = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                if time.monotonic() + pause > deadline:
                    raise Unreachable(f"the Kubernetes API does not answer: {error}") from error
                time.sleep(pause)
        raise AssertionError("the loop ends by return or raise")

    def _send(
        self,
        pool: urllib3.PoolManager,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        timeout: urllib3.Timeout,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and return the successful response, with its body unread."""
        headers = {"Authorization": f"Bearer {(self.account / 'token').read_text().strip()}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = f"{self.address}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            answer = pool.request(
                method,
                url,
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                timeout=timeout,
                retries=False,
                preload_content=False,
            )
            if answer.status < 300:
                return answer
            text = _message(answer)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Unreachable(f"{self.address}: {error}") from error
        if answer.status == 429 or answer.status >= 500:
            raise Unreachable(f"{method} {path}: {answer.status} {text}")
        raise Rejected(answer.status, text)


def this_cluster(account: Path = ACCOUNT) -> Cluster:
    """Return the cluster that this pod runs in. Raises UserError outside of a cluster."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT_HTTPS", "443")
    if not host or not (account / "token").exists():
        raise UserError(
            "training on several nodes needs a Kubernetes cluster with Kubeflow Trainer, but this process is not in a "
            "pod with a ServiceAccount token: on a single machine, set nodes to 1 and use processes instead"
        )
    address = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Cluster(address, (account / "namespace").read_text().strip(), account)


def _pool(cluster: Cluster) -> urllib3.PoolManager:
    return urllib3.PoolManager(num_pools=1, ca_certs=str(cluster.account / "ca.crt"))


def _message(answer: urllib3.BaseHTTPResponse) -> str:
    """Return the message of an error response: that of its Status object, otherwise the body's text."""
    text = answer.read().decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:500] or str(answer.reason)


@dataclass(frozen=True)
class Change:
    """The current state of an object, or its last state if it is gone."""

    object: Object
    gone: bool = False


def changes(cluster: Cluster, collection: str, query: Mapping[str, str], stopped: threading.Event) -> Iterator[Change]:
    """Yield every object that matches the query, and again each time it changes.

    Raises Rejected if listing is not allowed, and Unreachable after AWAY_SECONDS without an answer.
    """
    known: dict[str, Object] = {}
    answered = time.monotonic()
    while not stopped.is_set():
        try:
            listed = cluster.get(collection, query, patience=0)
        except Unreachable:
            if time.monotonic() - answered > AWAY_SECONDS:
                raise
            stopped.wait(PAUSE_SECONDS)
            continue
        answered = time.monotonic()
        yield from _differences(known, {item["metadata"]["uid"]: item for item in listed["items"]})
        pause = PAUSE_SECONDS
        try:
            yield from _watched(cluster, collection, query, listed["metadata"]["resourceVersion"], known)
        except Unreachable:
            pass
        except Rejected as error:
            pause = PAUSE_SECONDS if error.status == 410 else POLL_SECONDS
        stopped.wait(pause)


def _differences(known: dict[str, Object], listed: dict[str, Object]) -> Iterator[Change]:
    """Yield the differences between `known` and a new list, and update `known`."""
    for uid in known.keys() - listed.keys():
        yield Change(known.pop(uid), gone=True)
    for uid, item in listed.items():
        if known.get(uid) != item:
            known[uid] = item
            yield Change(item)


def _watched(
    cluster: Cluster, collection: str, query: Mapping[str, str], version: str, known: dict[str, Object]
) -> Iterator[Change]:
    """Yield changes from a watch and update `known`. Raises Rejected for error events too, such as 410."""
    watch = {**query, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
    for line in cluster.lines(collection, watch, silence=SILENCE_SECONDS):
        event = json.loads(line)
        item = event["object"]
        if event["type"] == "ERROR":
            raise Rejected(int(item.get("code", 0)), str(item.get("message", "")))
        uid = item["metadata"]["uid"]
        if event["type"] == "DELETED":
            known.pop(uid, None)
            yield Change(item, gone=True)
        else:
            known[uid] = item
            yield Change(item)
