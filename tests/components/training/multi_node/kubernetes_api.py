"""A server that keeps objects as the Kubernetes API does, as far as a step asks: over TLS, for a token, with watches.

It is not the real one. What comes from the real one is the schema that a TrainJob must fit. It allows what the
manifests' Role allows, and nothing else. The controllers' part, and what goes wrong, is played by the tests.
"""

import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.components.training.multi_node.published import complaints
from tests.components.training.multi_node.rights import Right, granted, needed

Object = dict[str, Any]
NAMESPACE = "runs"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"


@dataclass
class Log:
    lines: list[tuple[str, str]] = field(default_factory=list)
    """Time stamp and text."""
    cut_after: list[int] = field(default_factory=list)
    """Lines after which a connection breaks, one number for each connection."""


@dataclass
class State:
    """`changed` guards everything; whoever changes something notifies."""

    token: str
    objects: dict[str, Object] = field(default_factory=dict)
    events: list[tuple[int, str, str, Object]] = field(default_factory=list)
    """Version, type, collection, object."""
    version: int = 100
    oldest: int = 0
    """Watches from before this version are told 410."""
    logs: dict[str, Log] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refusals: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, part of the path with its query, status: the next request like it is answered so, once."""
    forbidden: list[tuple[str, str]] = field(default_factory=list)
    """Likewise, whenever it is asked."""
    allowed: frozenset[Right] = field(default_factory=granted)
    needed: set[Right] = field(default_factory=set)
    """What was asked for, allowed or not."""
    cut_watches: int = 0
    """How many watches more break after their first event."""
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)


class Api:
    """The server, and what controllers do to its objects."""

    def __init__(self, certificate: Path, key: Path, token: str) -> None:
        self.state = State(token)
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": self.state}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def end_streams(self) -> None:
        """Watches and logs end, those that are still asked for as well."""
        with self.state.changed:
            self.state.closed = True
            self.state.changed.notify_all()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, collection: str, item: Object) -> Object:
        """Create or replace, as a controller does."""
        with self.state.changed:
            return _put(self.state, collection, item)

    def remove(self, collection: str, name: str) -> None:
        with self.state.changed:
            _remove(self.state, collection, name)

    def get(self, collection: str, name: str) -> Object | None:
        with self.state.changed:
            found = self.state.objects.get(f"{collection}/{name}")
            return json.loads(json.dumps(found)) if found else None

    def say(self, pod: str, *lines: str) -> None:
        """Write to a pod's log; each line comes a millisecond after the one before, with the zeros left out."""
        with self.state.changed:
            log = self.state.logs.setdefault(pod, Log())
            for line in lines:
                fraction = f"{len(log.lines) + 1:03}".rstrip("0")
                log.lines.append((f"2026-01-02T03:04:05.{fraction}Z", line))
            self.state.changed.notify_all()

    def end_job(self, name: str, condition: str, **more: str) -> None:
        job = self.get(JOBS, name)
        assert job is not None
        job["status"] = {"conditions": [{"type": condition, "status": "True", "reason": "Because", **more}]}
        self.put(JOBS, job)

    def forget_old_versions(self) -> None:
        with self.state.changed:
            self.state.oldest = self.state.version + 1
            self.state.version += 10

    def asked(self, method: str, part: str) -> int:
        return sum(asked == method and part in path for asked, path, _ in list(self.state.requests))


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # clients go away as they like
            super().handle_error(request, client_address)


def _put(state: State, collection: str, item: Object) -> Object:
    path = f"{collection}/{item['metadata']['name']}"
    old = state.objects.get(path)
    state.version += 1
    metadata = {"uid": f"uid-{state.version}", **item["metadata"], "namespace": NAMESPACE}
    if old:
        metadata["uid"] = old["metadata"]["uid"]
    new = {**item, "metadata": {**metadata, "resourceVersion": str(state.version)}}
    state.objects[path] = new
    state.events.append((state.version, "MODIFIED" if old else "ADDED", collection, new))
    state.changed.notify_all()
    return new


def _remove(state: State, collection: str, name: str) -> None:
    gone = state.objects.pop(f"{collection}/{name}")
    state.version += 1
    state.events.append((state.version, "DELETED", collection, gone))
    state.changed.notify_all()


def _selected(item: Object, query: dict[str, str]) -> bool:
    for selector in filter(None, query.get("fieldSelector", "").split(",")):
        field_of, _, wanted = selector.partition("=")
        assert field_of in ("metadata.name", "involvedObject.uid", "type")
        found: Any = item
        for part in field_of.split("."):
            found = found[part]
        if found != wanted:
            return False
    label, _, value = query.get("labelSelector", "").partition("=")
    return not label or item["metadata"].get("labels", {}).get(label) == value


class _Handler(BaseHTTPRequestHandler):
    state: State
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, query = self._begin()
        if not path:
            return
        name = path.removeprefix(f"{PODS}/")
        if path in (JOBS, PODS, EVENTS):
            self._watch(path, query) if query.get("watch") == "true" else self._list(path, query)
        elif path.startswith(PODS) and name.endswith("/log"):
            self._log(name.removesuffix("/log"), query)
        else:
            with self.state.changed:
                found = self.state.objects.get(path)
            self._answer(200, found) if found else self._status(404, f'"{path}" not found')

    def do_POST(self) -> None:
        path, query = self._begin()
        if not path:
            return
        assert query == {"fieldValidation": "Strict"}
        body = json.loads(self.body)
        name = body["metadata"]["name"]
        wrong = complaints("trainjobs", body)
        if not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > 63:
            wrong.append("metadata.name must match RFC 1035 DNS label format")
        with self.state.changed:
            if wrong:
                self._status(422, f"TrainJob {name!r} is invalid: {'; '.join(wrong)}")
            elif f"{path}/{name}" in self.state.objects:
                self._status(409, f"trainjobs {name!r} already exists")
            else:
                self._answer(201, _put(self.state, path, body))

    def do_DELETE(self) -> None:
        path, _ = self._begin()
        if not path:
            return
        options = json.loads(self.body)
        collection, _, name = path.rpartition("/")
        with self.state.changed:
            found = self.state.objects.get(path)
            if not found:
                self._status(404, f"{name!r} not found")
            elif options["preconditions"]["uid"] != found["metadata"]["uid"]:
                self._status(409, "the UID in the precondition does not match")
            else:
                # In the foreground: marked, and gone when what it owns is.
                assert options["propagationPolicy"] == "Foreground"
                self._answer(200, _put(self.state, collection, _marked(found)))

    def _begin(self) -> tuple[str, dict[str, str]]:
        """The path and query to serve; "" where the request is answered already."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        with self.state.changed:
            self.state.requests.append((self.command, self.path, query))
            if self.headers.get("Authorization") != f"Bearer {self.state.token}":
                self._status(401, "Unauthorized")
                return "", {}
            for entry in self.state.refusals:
                method, part, status = entry
                if method == self.command and part in self.path:
                    self.state.refusals.remove(entry)
                    self._status(status, "this time not")
                    return "", {}
            for method, part in self.state.forbidden:
                if method == self.command and part in self.path:
                    self._status(403, f"{part} is forbidden: User cannot {method} it")
                    return "", {}
            right = needed(self.command, parts.path, query)
            self.state.needed.add(right)
            if right not in self.state.allowed:
                self._status(403, f"{right.resource} is forbidden: User cannot {right.verb} it by the Role")
                return "", {}
        return parts.path, query

    def _list(self, collection: str, query: dict[str, str]) -> None:
        with self.state.changed:
            items = [
                item
                for path, item in self.state.objects.items()
                if path.rpartition("/")[0] == collection and _selected(item, query)
            ]
            self._answer(200, {"items": items, "metadata": {"resourceVersion": str(self.state.version)}})

    def _watch(self, collection: str, query: dict[str, str]) -> None:
        seen = int(query["resourceVersion"])
        with self.state.changed:
            if seen < self.state.oldest:
                self._begin_stream()
                self._send_line({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})
                self._end_stream()
                return
        self._begin_stream()
        for kind, item in self._events(collection, query, seen, time.monotonic() + int(query["timeoutSeconds"])):
            if not self._send_line({"type": kind, "object": item}):
                return
            with self.state.changed:
                if self.state.cut_watches:
                    self.state.cut_watches -= 1
                    self._break()
                    return
        self._end_stream()

    def _events(self, collection: str, query: dict[str, str], seen: int, end: float) -> Iterator[tuple[str, Object]]:
        while time.monotonic() < end and not self.state.closed:
            with self.state.changed:
                new = [event for event in self.state.events if event[0] > seen]
                if not new:
                    self.state.changed.wait(0.2)
            for version, kind, where, item in new:
                seen = version
                if where == collection and _selected(item, query):
                    yield kind, item

    def _log(self, pod: str, query: dict[str, str]) -> None:
        with self.state.changed:
            log = self.state.logs.get(pod)
            cut = log.cut_after.pop(0) if log and log.cut_after else None
        if log is None:
            self._status(400, f'container "node" in pod "{pod}" is waiting to start: ContainerCreating')
            return
        self._begin_stream()
        since, sent = query.get("sinceTime", "").removesuffix("Z"), 0
        lines = log.lines if "tailLines" not in query else log.lines[-int(query["tailLines"]) :]
        place = 0
        while True:
            with self.state.changed:
                new = lines[place:]
                ended = self.state.closed or query.get("follow") != "true" or self._has_ended(pod)
                if not new and not ended:
                    self.state.changed.wait(0.2)
            place += len(new)
            for stamp, text in new:
                if stamp.partition(".")[0] < since:
                    continue
                if not self._send((f"{stamp} {text}\n" if query.get("timestamps") else f"{text}\n").encode()):
                    return
                sent += 1
                if sent == cut:
                    self._break()
                    return
            if ended and not new:
                self._end_stream()
                return

    def _has_ended(self, pod: str) -> bool:
        found = self.state.objects.get(f"{PODS}/{pod}")
        return found is None or found["status"]["phase"] in ("Succeeded", "Failed")

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _send_line(self, value: Object) -> bool:
        return self._send(json.dumps(value).encode() + b"\n")

    def _send(self, data: bytes) -> bool:
        """False where nobody listens any more."""
        try:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            return False
        return True

    def _end_stream(self) -> None:
        try:
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def _break(self) -> None:
        """In the middle of a stream."""
        self.close_connection = True

    def _status(self, code: int, message: str) -> None:
        self._answer(code, {"kind": "Status", "status": "Failure", "code": code, "message": message})

    def _answer(self, code: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _marked(item: Object) -> Object:
    return {**item, "metadata": {**item["metadata"], "deletionTimestamp": "2026-01-02T03:04:05Z"}}
