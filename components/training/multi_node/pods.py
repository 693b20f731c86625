"""What a TrainJob's pods say while they come and go: the first one's log, what they wait for, why one failed."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from components import progress
from components.training.multi_node.kubernetes_api import Cluster, Object, Rejected, Unreachable

INDEX = "batch.kubernetes.io/job-completion-index"
ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
FINAL_CODES = (1, 2)
"""What components.training.multi_node.node ends with where a new start would not help."""
ERROR = "error: "
CONTAINER = "node"
RETRY_SECONDS = 1.0
SILENCE_SECONDS = 300.0
"""A training says something more often, and a connection may be dead without either end knowing."""
LAST_TRIES = 5
"""For the log of a pod that has ended, which may have none."""
LAST_LINES = 60
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Failure:
    """How a pod ended; `text` is its own last line."""

    pod: str
    code: int
    finished: str
    text: str


class PodFollower:
    """Told of every change of a pod; prints, and keeps the failures."""

    def __init__(self, cluster: Cluster, stopped: threading.Event) -> None:
        self.failures: list[Failure] = []
        self._cluster, self._stopped = cluster, stopped
        self._logged: dict[str, threading.Thread] = {}
        self._failed: set[str] = set()
        self._waiting: dict[str, str] = {}
        self._attempt = 0

    def note(self, pod: Object) -> None:
        metadata, uid = pod["metadata"], str(pod["metadata"]["uid"])
        marks = {**metadata.get("annotations", {}), **metadata.get("labels", {})}
        attempt = int(marks.get(ATTEMPT, 0))
        if attempt > self._attempt:
            self._attempt = attempt
            progress.say("train", f"all nodes start again from the newest recovery: attempt {attempt + 1}")
        first = marks.get(INDEX) == "0"
        state = _container_state(pod)
        if first and uid not in self._logged and ("running" in state or "terminated" in state):
            self._logged[uid] = self._print(str(metadata["name"]))
        waits = _waits_for(pod, state)
        if waits and self._waiting.get(uid) != waits:
            self._waiting[uid] = waits
            progress.say("train", f"pod {metadata['name']} waits: {waits}")
        if pod["status"].get("phase") == "Failed" and uid not in self._failed:
            self._failed.add(uid)
            self._note_failure(pod, state.get("terminated", {}), shown=first)

    def finish(self, seconds: float) -> None:
        """Let the logs be read to their end."""
        for thread in self._logged.values():
            thread.join(seconds)

    def blamed(self) -> Failure | None:
        """The failure that decided: one that a new start does not mend, else the first of the last attempt's."""
        final = [failure for failure in self.failures if failure.code in FINAL_CODES]
        return next(iter(final or self.failures), None)

    def _print(self, pod: str) -> threading.Thread:
        thread = threading.Thread(target=print_log, args=(self._cluster, pod, self._stopped), name=pod, daemon=True)
        thread.start()
        return thread

    def _note_failure(self, pod: Object, ended: Object, *, shown: bool) -> None:
        name, code = str(pod["metadata"]["name"]), int(ended.get("exitCode", -1))
        # Kubernetes has kept the end of the log with the pod: the log itself may be gone by now.
        text = str(ended.get("message", "")).strip() or ("" if shown else last_lines(self._cluster, name).strip())
        if text and not shown:
            print(f"the last lines of pod {name}:\n{text}", file=sys.stderr, flush=True)
        why = ended.get("reason") or pod["status"].get("reason") or "Error"
        line = text.splitlines()[-1] if text else str(pod["status"].get("message") or why)
        said = line.partition(ERROR)[2] or line
        progress.say("train", f"pod {name} ended with code {code} ({why}): {said}")
        self.failures.append(Failure(name, code, str(ended.get("finishedAt", "")), said))


def _container_state(pod: Object) -> Object:
    for status in pod["status"].get("containerStatuses", []):
        if status["name"] == CONTAINER:
            return dict(status.get("state", {}))
    return {}


def _waits_for(pod: Object, state: Object) -> str:
    """What keeps a pod from starting that a person may have to do something about; "" for nothing."""
    waiting = state.get("waiting", {})
    if waiting.get("message"):
        return f"{waiting['reason']}: {waiting['message']}"
    for condition in pod["status"].get("conditions", []):
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
            if ended:  # asked before the log was read, which therefore is whole
                return
        except (Unreachable, Rejected):  # also while its container is yet to start
            pass
        tries += ended
        stopped.wait(RETRY_SECONDS)


def last_lines(cluster: Cluster, pod: str) -> str:
    """The end of a pod's log; "" where it cannot be had any more."""
    query = {"container": CONTAINER, "tailLines": str(LAST_LINES)}
    try:
        lines = cluster.lines(cluster.path("api/v1", "pods", pod, "log"), query, silence=10)
        return b"\n".join(lines).decode(errors="replace")
    except (Unreachable, Rejected):
        return ""


def _lines(cluster: Cluster, pod: str, since: str) -> Iterator[tuple[str, str]]:
    """Moment and text of each line, from the second of `since` on."""
    query = {"container": CONTAINER, "follow": "true", "timestamps": "true"}
    if since:
        query["sinceTime"] = since.partition(".")[0] + "Z"
    for line in cluster.lines(cluster.path("api/v1", "pods", pod, "log"), query, silence=SILENCE_SECONDS):
        stamp, _, text = line.decode(errors="replace").partition(" ")
        yield _comparable(stamp), text


def _comparable(stamp: str) -> str:
    """A time whose text sorts: Kubernetes leaves out the zeros at the end of its nanoseconds."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"


def _has_ended(cluster: Cluster, pod: str) -> bool:
    try:
        return bool(cluster.get(cluster.path("api/v1", "pods", pod), patience=0)["status"]["phase"] in ENDED)
    except Unreachable:
        return False
    except Rejected:
        return True
