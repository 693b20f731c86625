"""Report on a TrainJob's pods: the log of the first one, why pods are waiting, and why one failed."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from components import progress
from components.training.multi_node.kubernetes_api import Cluster, Object, Rejected, Unreachable

INDEX = "batch.kubernetes.io/job-completion-index"
ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
FINAL_CODES = (1, 2)
"""Exit codes of components.training.multi_node.node that a restart cannot fix."""
ERROR = "error: "
CONTAINER = "node"
RETRY_SECONDS = 1.0
SILENCE_SECONDS = 300.0
"""Trainings log more often than this, so a silent connection is dead."""
LAST_TRIES = 5
"""Attempts to read the log of a pod that has ended; it may have none."""
LAST_LINES = 60
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Failure:
    """How a pod ended; `text` is the last line of its log."""

    pod: str
    code: int
    finished: str
    text: str


class PodFollower:
    """Receives every change of a pod, reports it, and keeps the failures."""

    def __init__(self, cluster: Cluster, stopped: threading.Event) -> None:
        self.failures: list[Failure] = []
        self._cluster, self._stopped = cluster, stopped
        self._logged: dict[str, threading.Thread] = {}
        self._failed: set[str] = set()
        self._waiting: dict[str, str] = {}
        self._attempt = 0

    def note(self, pod: Object) -> None:
        metadata, uid = pod["metadata"], str(pod["metadata"]["uid"])
        labels = {**metadata.get("annotations", {}), **metadata.get("labels", {})}
        attempt = int(labels.get(ATTEMPT, 0))
        if attempt > self._attempt:
            self._attempt = attempt
            progress.say("train", f"all nodes restart from the newest recovery: attempt {attempt + 1}")
        first = labels.get(INDEX) == "0"
        state = _container_state(pod)
        if first and uid not in self._logged and ("running" in state or "terminated" in state):
            self._logged[uid] = self._print(str(metadata["name"]))
        reason = waiting_reason(pod)
        if reason and self._waiting.get(uid) != reason:
            self._waiting[uid] = reason
            progress.say("train", f"pod {metadata['name']} is waiting: {reason}")
        if pod["status"].get("phase") == "Failed" and uid not in self._failed:
            self._failed.add(uid)
            self._note_failure(pod, state.get("terminated", {}), shown=first)

    def finish(self, seconds: float) -> None:
        """Wait until the logs are read to their end, up to `seconds` for each."""
        for thread in self._logged.values():
            thread.join(seconds)

    def root_cause(self) -> Failure | None:
        """Return the failure that ended the job: one that a restart cannot fix, otherwise the first one."""
        final = [failure for failure in self.failures if failure.code in FINAL_CODES]
        return next(iter(final or self.failures), None)

    def _print(self, pod: str) -> threading.Thread:
        thread = threading.Thread(target=print_log, args=(self._cluster, pod, self._stopped), name=pod, daemon=True)
        thread.start()
        return thread

    def _note_failure(self, pod: Object, ended: Object, *, shown: bool) -> None:
        name, code = str(pod["metadata"]["name"]), int(ended.get("exitCode", -1))
        # Kubernetes keeps the end of the log in the pod's status; the log itself may be gone.
        text = str(ended.get("message", "")).strip() or ("" if shown else last_lines(self._cluster, name).strip())
        if text and not shown:
            print(f"the last lines of pod {name}:\n{text}", file=sys.stderr, flush=True)
        why = ended.get("reason") or pod["status"].get("reason") or "Error"
        line = text.splitlines()[-1] if text else str(pod["status"].get("message") or why)
        error = line.partition(ERROR)[2] or line
        progress.say("train", f"pod {name} exited with code {code} ({why}): {error}")
        self.failures.append(Failure(name, code, str(ended.get("finishedAt", "")), error))


def _container_state(pod: Object) -> Object:
    for status in pod["status"].get("containerStatuses", []):
        if status["name"] == CONTAINER:
            return dict(status.get("state", {}))
    return {}


def waiting_reason(pod: Object) -> str:
    """Return what keeps a pod from starting, if it may need a person's attention, otherwise ""."""
    status = pod["status"]
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("message"):
            return f"{waiting['reason']}: {waiting['message']}"
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason") or "not scheduled yet")
    return ""


def print_log(cluster: Cluster, pod: str, stopped: threading.Event) -> None:
    """Print the pod's log to stderr until the pod has ended or is gone, or `stopped`."""
    last, tries = "", 0
    while not stopped.is_set() and tries < LAST_TRIES:
        ended = _has_ended(cluster, pod)
        try:
            for moment, text in _lines(cluster, pod, last):
                if moment > last:
                    print(text, file=sys.stderr, flush=True)
                    last = moment
                if stopped.is_set():
                    return
            if ended:  # it had ended before the log was read, so the log is complete
                return
        except (Unreachable, Rejected):  # also while its container is starting
            pass
        tries += ended
        stopped.wait(RETRY_SECONDS)


def last_lines(cluster: Cluster, pod: str) -> str:
    """Return the end of a pod's log, or "" if it is gone."""
    query = {"container": CONTAINER, "tailLines": str(LAST_LINES)}
    try:
        lines = cluster.lines(cluster.path("api/v1", "pods", pod, "log"), query, silence=10)
        return b"\n".join(lines).decode(errors="replace")
    except (Unreachable, Rejected):
        return ""


def _lines(cluster: Cluster, pod: str, since: str) -> Iterator[tuple[str, str]]:
    """Yield the time and text of each log line, starting at `since` rounded down to the second."""
    query = {"container": CONTAINER, "follow": "true", "timestamps": "true"}
    if since:
        query["sinceTime"] = since.partition(".")[0] + "Z"
    for line in cluster.lines(cluster.path("api/v1", "pods", pod, "log"), query, silence=SILENCE_SECONDS):
        stamp, _, text = line.decode(errors="replace").partition(" ")
        yield _comparable(stamp), text


def _comparable(stamp: str) -> str:
    """Pad a timestamp so that it sorts as text: Kubernetes omits trailing zeros of nanoseconds."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"


def _has_ended(cluster: Cluster, pod: str) -> bool:
    try:
        return bool(cluster.get(cluster.path("api/v1", "pods", pod), patience=0)["status"]["phase"] in ENDED)
    except Unreachable:
        return False
    except Rejected:
        return True
