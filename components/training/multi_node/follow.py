"""Following a TrainJob to its end."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from components import progress
from components.errors import UserError, WorkFailed
from components.step_guard import USERS_MISTAKE
from components.training.multi_node.kubernetes_api import Change, Cluster, Object, Rejected, Unreachable, changes
from components.training.multi_node.pods import PodFollower
from components.training.multi_node.trainjob import GROUP, VERSION

OWNER = "jobset.sigs.k8s.io/jobset-name"
LOOK_SECONDS = 0.5
LAST_WORDS_SECONDS = 10.0
"""For what pods and logs still have to say when the job has ended."""

_News = tuple[Callable[[Change], None], Change] | Exception


def finished(job: Object) -> str:
    """Complete or Failed; "" while it goes on."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def follow(cluster: Cluster, name: str, uid: str, lost: threading.Event) -> None:
    """Print what the job's pods do until it is complete.

    Raises:
        UserError, WorkFailed: it failed, with the words of the pod that did; it was deleted; or the run was `lost`.
    """
    _Following(cluster, name, uid).until_the_end(lost)


class _Following:
    def __init__(self, cluster: Cluster, name: str, uid: str) -> None:
        self._cluster, self._name, self._uid = cluster, name, uid
        self._news: queue.Queue[_News] = queue.Queue()
        self._stopped = threading.Event()
        self._pods = PodFollower(cluster, self._stopped)
        self._pods_path = cluster.path("api/v1", "pods")
        self._of_the_job = {"labelSelector": f"{OWNER}={name}"}
        self._job: Object = {}
        self._suspended = False

    def until_the_end(self, lost: threading.Event) -> None:
        jobs = self._cluster.path(f"apis/{GROUP}/{VERSION}", "trainjobs")
        try:
            # Within: a signal may come while the threads start, and they end with this.
            self._watch(jobs, {"fieldSelector": f"metadata.name={self._name}"}, self._note_job)
            self._watch(self._pods_path, self._of_the_job, self._note_pod, needed=False)
            while not (ended := finished(self._job)):
                if lost.is_set():
                    raise WorkFailed(f"another process took over the run of TrainJob {self._name} while this one slept")
                self._take(LOOK_SECONDS)
            self._hear_the_last()
        finally:
            self._stopped.set()
        if ended == "Failed":
            raise self._failure()

    def _watch(
        self, collection: str, query: dict[str, str], note: Callable[[Change], None], *, needed: bool = True
    ) -> None:
        """In a thread: the main one must hear signals."""

        def work() -> None:
            try:
                for change in changes(self._cluster, collection, query, self._stopped):
                    self._news.put((note, change))
            except Exception as error:  # raised where the news are taken
                if needed or not isinstance(error, Rejected):
                    self._news.put(error)
                else:
                    progress.say("train", f"the job is followed without its pods and their logs: {error}")

        threading.Thread(target=work, name=collection, daemon=True).start()

    def _take(self, seconds: float) -> bool:
        """Hear one piece of news; False when none came."""
        try:
            news = self._news.get(timeout=seconds)
        except queue.Empty:
            return False
        if isinstance(news, Exception):
            raise news
        note, change = news
        note(change)
        return True

    def _hear_the_last(self) -> None:
        """The job may be known to have ended before its pods are known at all."""
        while self._take(0):
            pass
        with suppress(Rejected, Unreachable):
            for pod in self._cluster.get(self._pods_path, self._of_the_job, patience=LAST_WORDS_SECONDS)["items"]:
                self._pods.note(pod)
        self._pods.finish(LAST_WORDS_SECONDS)

    def _note_pod(self, change: Change) -> None:
        self._pods.note(change.object)

    def _note_job(self, change: Change) -> None:
        job = change.object
        if job["metadata"]["uid"] != self._uid:
            return
        if change.gone or "deletionTimestamp" in job["metadata"]:
            raise WorkFailed(f"TrainJob {self._name} was deleted by somebody; the same run goes on from its recovery")
        self._job = job
        suspended = bool(job["spec"].get("suspend"))
        if suspended and not self._suspended:
            progress.say("train", f"TrainJob {self._name} is suspended, as a queue does until it is its turn")
        self._suspended = suspended

    def _failure(self) -> Exception:
        blamed = self._pods.blamed()
        if blamed is not None and blamed.code == USERS_MISTAKE:
            return UserError(blamed.text)
        if blamed is not None:
            return WorkFailed(f"TrainJob {self._name} failed: pod {blamed.pod} ended with {blamed.code}: {blamed.text}")
        [condition] = [item for item in self._job["status"]["conditions"] if item["type"] == "Failed"]
        return WorkFailed(f"TrainJob {self._name} failed: {condition.get('message') or condition.get('reason')}")
