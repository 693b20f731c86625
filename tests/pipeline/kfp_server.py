"""A server on loopback that speaks the REST API v2beta1 of Kubeflow Pipelines. It is not the real
one, and runs nothing.

What comes in and what goes out is checked against the models of kfp_server_api, field by field: the real server refuses
a field that it does not know. Lists have pages, sorting and filters; errors look like those of its gRPC gateway.
"""

import base64
import contextlib
import email.parser
import email.policy
import functools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api

from tests.pipeline.kfp_records import (
    FORBIDDEN,
    INVALID,
    NOT_FOUND,
    STATUS,
    UNAUTHENTICATED,
    Record,
    Records,
    Refused,
    matches,
)

BASE = "/apis/v2beta1/"
SORTABLE = ("created_at", "display_name", "")


class KfpServer:
    """Start with `with running() as server`. `token`: what a request must show; `read_only`: refuse to make things;
    `down`: answer as a gateway whose server is away, for so many requests; `through_ui`: report the health as KFP's UI
    does when it forwards requests to the server.
    """

    def __init__(self) -> None:
        self.records = Records()
        self.token = ""
        self.version = "2.17.0"
        self.through_ui = False
        self.read_only = False
        self.login_page = False
        self.down = 0
        self.requests: list[tuple[str, str, Any]] = []
        """Method, path with query, and body, of every request."""
        self.headers: list[dict[str, str]] = []
        self.address = ""
        self.lock = threading.Lock()

    def made(self, part: str) -> list[Any]:
        """The bodies of the requests that made something of this part of the API."""
        return [body for method, path, body in self.requests if method == "POST" and path == BASE + part]


@contextlib.contextmanager
def running() -> Iterator[KfpServer]:
    server = KfpServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kfp": server}))
    http.daemon_threads = True
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class _Handler(BaseHTTPRequestHandler):
    kfp: KfpServer
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.kfp.lock:
            body = data if "multipart" in self.headers.get("Content-Type", "") else json.loads(data or b"{}")
            self.kfp.requests.append((self.command, self.path, body))
            self.kfp.headers.append(dict(self.headers))
            if self.kfp.login_page:
                return self._answer(200, b"<!doctype html><title>Sign in</title>", "text/html")
            if self.kfp.down:
                self.kfp.down -= 1
                return self._answer(503, b"upstream connect error", "text/plain")
            try:
                self._check_caller()
                kind, value = self._route(body)
                self._answer(200, json.dumps(checked(kind, value)).encode())
            except Refused as refused:
                self._answer(STATUS[refused.code], json.dumps(self._error(refused)).encode())

    do_GET = do_POST = do_DELETE = _handle

    def _check_caller(self) -> None:
        if self.kfp.token and self.headers.get("Authorization") != f"Bearer {self.kfp.token}":
            raise Refused(UNAUTHENTICATED, "Failed to check authorization. User identity is empty")
        if self.kfp.read_only and self.command != "GET":
            raise Refused(FORBIDDEN, "User 'reader' is not authorized with reason: no role that may create runs")

    def _error(self, refused: Refused) -> Record:
        if "/upload" in self.path:
            return {"error_message": refused.text, "error_details": refused.text}
        details = {"@type": "type.googleapis.com/google.rpc.Status", "code": refused.code, "message": refused.text}
        return {"code": refused.code, "message": f"rpc error: code = {refused.code}", "details": [details]}

    def _route(self, body: Any) -> tuple[str, Any]:
        """The model of the answer, and the answer."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        records, path = self.kfp.records, unquote(parts.path).removeprefix(BASE).split("/")
        match (self.command, *path):
            case "GET", "healthz":
                # The model of the answer lacks the release and the commit.
                checked("V2beta1GetHealthzResponse", health := {"multi_user": False, "pipeline_store": "database"})
                if self.kfp.through_ui:
                    release = {"apiServerReady": True, "apiServerTagName": self.kfp.version, "frontendTagName": "2.0.0"}
                else:
                    release = {"commit_sha": "0123abc", "tag_name": self.kfp.version}
                return "object", {**release, **health}
            case "GET", "pipelines":
                return "V2beta1ListPipelinesResponse", page("pipelines", records.pipelines, query)
            case "POST", "pipelines":
                return "V2beta1Pipeline", records.create_pipeline(checked("V2beta1Pipeline", body))
            case "POST", "pipelines", "upload_version":
                version = records.upload_version(query.get("pipelineid", ""), query.get("name", ""), self._file(body))
                return "V2beta1PipelineVersion", version
            case "GET", "pipelines", pipeline_id, "versions":
                own = {key: one for key, one in records.versions.items() if one["pipeline_id"] == pipeline_id}
                return "V2beta1ListPipelineVersionsResponse", page("pipeline_versions", own, query)
            case "GET", "experiments":
                return "V2beta1ListExperimentsResponse", page("experiments", records.experiments, query)
            case "POST", "experiments":
                return "V2beta1Experiment", records.create_experiment(checked("V2beta1Experiment", body))
            case "POST", "runs":
                return "V2beta1Run", records.create_run(checked("V2beta1Run", body))
            case "GET", "runs":
                return "V2beta1ListRunsResponse", page("runs", {k: r.shown for k, r in records.runs.items()}, query)
            case "GET", "runs", run_id:
                return "V2beta1Run", records.get_run(run_id)
            case "POST", "runs", run_id if run_id.endswith(":terminate"):
                records.terminate(run_id.removesuffix(":terminate"))
                return "object", {}
        return self._route_recurring(path, body, query)

    def _route_recurring(self, path: list[str], body: Any, query: Record) -> tuple[str, Any]:
        records = self.kfp.records
        match (self.command, *path):
            case "POST", "recurringruns":
                return "V2beta1RecurringRun", records.create_recurring(checked("V2beta1RecurringRun", body))
            case "GET", "recurringruns":
                return "V2beta1ListRecurringRunsResponse", page("recurringRuns", records.recurring, query)
            case method, "recurringruns", name if name.split(":")[0] in records.recurring:
                recurring_id, _, what = name.partition(":")
                if method == "DELETE":
                    del records.recurring[recurring_id]
                elif what:
                    mode = {"enable": "ENABLE", "disable": "DISABLE"}[what]
                    records.recurring[recurring_id] |= {"mode": mode, "status": f"{mode}D"}
                return "object", {}
        raise Refused(NOT_FOUND, f"{self.command} {self.path}: Not Found")

    def _file(self, body: bytes) -> str:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        for part in message.iter_parts():
            if part.get_param("name", header="content-disposition") == "uploadfile":
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                return content.decode()
        raise Refused(INVALID, "Failed to read pipeline from file")

    def _answer(self, status: int, data: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing: pytest shows what matters."""


def page(name: str, records: dict[str, Record], query: Record) -> Record:
    """A page of a list: 20 records unless the request says how many, and a token for the next."""
    key, _, order = query.get("sort_by", "").lower().partition(" ")
    if key not in SORTABLE or order not in ("", "asc", "desc"):
        raise Refused(INVALID, f"Cannot sort on field {key} {order}")
    found = [record for record in records.values() if matches(record, query.get("filter", ""))]
    if "namespace" in query and name != "runs":
        found = [record for record in found if record.get("namespace", "") in ("", query["namespace"])]
    found.sort(key=lambda record: record[key or "created_at"], reverse=order == "desc")
    size = min(int(query.get("page_size", 0)) or 20, 200)
    try:
        first = json.loads(base64.b64decode(query.get("page_token", "")) or "0")
    except ValueError:
        raise Refused(INVALID, "Invalid page token") from None
    answer: Record = {name: found[first : first + size], "total_size": len(found)}
    if first + size < len(found):
        answer["next_page_token"] = base64.b64encode(json.dumps(first + size).encode()).decode()
    # As protobuf's JSON does: what is empty is left out.
    return {key: value for key, value in answer.items() if value}


def checked(kind: str, value: Any) -> Any:
    """The value, if it is one of this model: every field known, every enum's value too, and readable by the client."""
    _check_fields(kind, value)
    if kind != "object":
        _api_client().deserialize(SimpleNamespace(data=json.dumps(value)), kind)
    return value


@functools.cache
def _api_client() -> Any:
    return kfp_server_api.ApiClient()


def _check_fields(kind: str, value: Any) -> None:
    if kind.startswith("list["):
        for item in value:
            _check_fields(kind[5:-1], item)
    elif kind.startswith("dict("):
        for item in value.values():
            _check_fields(kind[5:-1].split(", ")[1], item)
    elif model := getattr(kfp_server_api, kind, None):
        if allowed := getattr(model, "allowable_values", None):
            if value not in allowed:
                raise Refused(INVALID, f"invalid value for enum {kind}: {value!r}")
            return
        kinds = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        for name, item in value.items():
            if name not in kinds:
                raise Refused(INVALID, f'(line 1:2): unknown field "{name}"')
            _check_fields(kinds[name], item)
