"""What changes in a collection of Kubernetes objects, for as long as somebody wants to know.

Every watch begins with a list and lasts seconds, so that whatever was missed (a dropped connection, a resource version
that is too old, a proxy that holds events back) is made good by the next list. Where watching is not allowed, lists do.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from components.training.trainjob.api import Cluster, Object, Refused, Unreachable

WATCH_SECONDS = 60
SILENCE_SECONDS = WATCH_SECONDS + 15.0
PAUSE_SECONDS, POLL_SECONDS = 1.0, 5.0
AWAY_SECONDS = 1800.0
"""How long the API may be away while a training goes on without it."""


@dataclass(frozen=True)
class Change:
    """An object as it is now, or was when it went."""

    object: Object
    gone: bool = False


def changes(cluster: Cluster, collection: str, query: Mapping[str, str], stopped: threading.Event) -> Iterator[Change]:
    """Every object that fits the query, and again whenever it changes.

    Raises Refused where listing is not allowed, and Unreachable after AWAY_SECONDS without an answer.
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
        except Refused as error:
            pause = PAUSE_SECONDS if error.status == 410 else POLL_SECONDS
        stopped.wait(pause)


def _differences(known: dict[str, Object], listed: dict[str, Object]) -> Iterator[Change]:
    """What a list has that was not known; `known` is brought up to date."""
    for uid in known.keys() - listed.keys():
        yield Change(known.pop(uid), gone=True)
    for uid, item in listed.items():
        if known.get(uid) != item:
            known[uid] = item
            yield Change(item)


def _watched(
    cluster: Cluster, collection: str, query: Mapping[str, str], version: str, known: dict[str, Object]
) -> Iterator[Change]:
    """Raises Refused also for an error that comes as an event, such as 410 for a version that is too old."""
    asked = {**query, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
    for line in cluster.lines(collection, asked, silence=SILENCE_SECONDS):
        event = json.loads(line)
        item = event["object"]
        if event["type"] == "ERROR":
            raise Refused(int(item.get("code", 0)), str(item.get("message", "")))
        uid = item["metadata"]["uid"]
        if event["type"] == "DELETED":
            known.pop(uid, None)
            yield Change(item, gone=True)
        else:
            known[uid] = item
            yield Change(item)
