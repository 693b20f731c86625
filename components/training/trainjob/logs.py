"""The log of a pod as it is written, each line once, however often the connection breaks."""

import sys
import threading
from collections.abc import Iterator

from components.training.trainjob.api import Cluster, Refused, Unreachable

CONTAINER = "node"
RETRY_SECONDS = 1.0
SILENCE_SECONDS = 300.0
"""A training says something more often, and a connection may be dead without either end knowing."""
LAST_TRIES = 5
"""For the log of a pod that has ended, which may have none."""
LAST_LINES = 60
ENDED = ("Succeeded", "Failed")


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
        except (Unreachable, Refused):  # also while its container is yet to start
            pass
        tries += ended
        stopped.wait(RETRY_SECONDS)


def last_lines(cluster: Cluster, pod: str) -> str:
    """The end of a pod's log; "" where it cannot be had any more."""
    query = {"container": CONTAINER, "tailLines": str(LAST_LINES)}
    try:
        lines = cluster.lines(cluster.path("api/v1", "pods", pod, "log"), query, silence=10)
        return b"\n".join(lines).decode(errors="replace")
    except (Unreachable, Refused):
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
    except Refused:
        return True
