"""Follow a TrainJob to its end."""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from components import progress
from components.errors import UserError, WorkFailed
from components.step_guard import USERS_MISTAKE
from components.training.multi_node.kubernetes_api import Change, Cluster, Object, Rejected, Unreachable, changes
from components.training.multi_node.pods import PodFollower
from components.training.multi_node.trainjob import GROUP, VERSION

OWNER = "jobset.sigs.k8s.io/jobset-name"
POLL_SECONDS = 0.5
FINAL_SECONDS = 10.0
"""Time to read the remaining pod states and logs after the job has ended."""
START_SECONDS, GIVE_UP_SECONDS = 20.0, 300.0
"""Time for Kubeflow Trainer to create the pods before a message says why there are none, and before the step fails."""

_Event = tuple[Callable[[Change], None], Change] | Exception


def finished(job: Object) -> str:
    """Return "Complete" or "Failed", or "" while the job runs."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def follow(cluster: Cluster, name: str, uid: str, lost: threading.Event) -> UserError | WorkFailed | None:
    """Report on the job's pods until the job is complete, or has failed and its logs are shown.

    Returns:
        None if it is complete; otherwise the error of the pod that made it fail.

    Raises:
        WorkFailed: the job was deleted; or `lost` was set, because another process took over the run.
    """
    return _Following(cluster, name, uid).until_the_end(lost)


class _Following:
    def __init__(self, cluster: Cluster, name: str, uid: str) -> None:
        self._cluster, self._name, self._uid = cluster, name, uid
        self._events: queue.Queue[_Event] = queue.Queue()
        self._stopped = threading.Event()
        self._pods = PodFollower(cluster, self._stopped)
        self._pods_path = cluster.path("api/v1", "pods")
        self._pod_query = {"labelSelector": f"{OWNER}={name}"}
        self._job: Object = {}
        self._suspended = self._started = self._said_late = False
        self._expected_since: float | None = None

    def until_the_end(self, lost: threading.Event) -> UserError | WorkFailed | None:
        jobs = self._cluster.path(f"apis/{GROUP}/{VERSION}", "trainjobs")
        try:
            # Inside the try block: a signal may arrive while the threads start, and `finally` stops them.
            self._watch(jobs, {"fieldSelector": f"metadata.name={self._name}"}, self._note_job)
            self._watch(self._pods_path, self._pod_query, self._note_pod, needed=False)
            while not (ended := finished(self._job)):
                if lost.is_set():
                    raise WorkFailed(
                        f"another process took over the run of TrainJob {self._name} while this one was suspended"
                    )
                self._handle_event(POLL_SECONDS)
                if never_started := self._never_started():
                    return never_started
            self._drain()
        finally:
            self._stopped.set()
        return self._failure() if ended == "Failed" else None

    def _watch(
        self, collection: str, query: dict[str, str], note: Callable[[Change], None], *, needed: bool = True
    ) -> None:
        """Watch a collection in a thread, because the main thread must handle signals."""

        def work() -> None:
            try:
                for change in changes(self._cluster, collection, query, self._stopped):
                    self._events.put((note, change))
            except Exception as error:  # the main thread raises it
                if needed or not isinstance(error, Rejected):
                    self._events.put(error)
                else:
                    progress.say("train", f"following the job without its pods and their logs: {error}")

        threading.Thread(target=work, name=collection, daemon=True).start()

    def _handle_event(self, seconds: float) -> bool:
        """Wait up to `seconds` for an event and handle it; return whether there was one."""
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return False
        if isinstance(event, Exception):
            raise event
        note, change = event
        note(change)
        return True

    def _drain(self) -> None:
        """Handle the remaining events and list the pods once more: the job may end before any pod was seen."""
        while self._handle_event(0):
            pass
        with suppress(Rejected, Unreachable):
            for pod in self._cluster.get(self._pods_path, self._pod_query, patience=FINAL_SECONDS)["items"]:
                self._pods.note(pod)
        self._pods.finish(FINAL_SECONDS)

    def _never_started(self) -> WorkFailed | None:
        """Report why there are no pods yet, and after GIVE_UP_SECONDS return an error. Trainer sets no condition."""
        if self._started or self._expected_since is None:
            return None
        waited = time.monotonic() - self._expected_since
        if waited < START_SECONDS:
            return None
        if not self._said_late:
            self._said_late = True
            progress.say("train", f"TrainJob {self._name} has no pods yet: {self._newest_warning()}")
        if waited < GIVE_UP_SECONDS:
            return None
        return WorkFailed(f"TrainJob {self._name} has had no pods for {waited:.0f} s: {self._newest_warning()}")

    def _newest_warning(self) -> str:
        query = {"fieldSelector": f"involvedObject.uid={self._uid},type=Warning"}
        with suppress(Rejected, Unreachable):
            events = self._cluster.get(self._cluster.path("api/v1", "events"), query, patience=FINAL_SECONDS)["items"]
            if events:
                return " ".join(str(max(events, key=_time_of)["message"]).split())
        return f"is Kubeflow Trainer running? `kubectl -n {self._cluster.namespace} describe trainjob {self._name}`"

    def _note_pod(self, change: Change) -> None:
        self._started = True
        self._pods.note(change.object)

    def _note_job(self, change: Change) -> None:
        job = change.object
        if job["metadata"]["uid"] != self._uid:
            return
        if change.gone or "deletionTimestamp" in job["metadata"]:
            raise WorkFailed(f"TrainJob {self._name} was deleted: run it again to resume from the newest recovery")
        self._job = job
        # The step may have no access to the pods. Then, the job's status shows that Trainer has created its Jobs.
        self._started = self._started or bool(job.get("status", {}).get("jobsStatus"))
        suspended = bool(job["spec"].get("suspend"))
        if suspended and not self._suspended:
            progress.say("train", f"TrainJob {self._name} is suspended, probably waiting in a queue")
        self._suspended = suspended
        if suspended:
            self._expected_since = None
        elif self._expected_since is None:
            self._expected_since = time.monotonic()

    def _failure(self) -> UserError | WorkFailed:
        cause = self._pods.root_cause()
        if cause is not None and cause.code == USERS_MISTAKE:
            return UserError(cause.text)
        if cause is not None:
            return WorkFailed(
                f"TrainJob {self._name} failed: pod {cause.pod} exited with code {cause.code}: {cause.text}"
            )
        [condition] = [item for item in self._job["status"]["conditions"] if item["type"] == "Failed"]
        return WorkFailed(f"TrainJob {self._name} failed: {condition.get('message') or condition.get('reason')}")


def _time_of(event: Object) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
