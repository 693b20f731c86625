"""What a server for Kubeflow Pipelines keeps, and how its runs get on: see kfp_server, which speaks HTTP.

After the Go source of the real one (backend/src/apiserver) at 2.17: names, checks, words of errors, and the many nodes
that a run has on Argo, of which each step is one. A run gets on by a step each time that somebody asks about it.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

NEVER = "1970-01-01T00:00:00Z"
GRACE = 3
"""How many questions a run needs to stop."""

INVALID, NOT_FOUND, EXISTS, UNAUTHENTICATED, FORBIDDEN = 3, 5, 6, 16, 7
STATUS = {INVALID: 400, NOT_FOUND: 404, EXISTS: 409, UNAUTHENTICATED: 401, FORBIDDEN: 403}
"""gRPC's codes, and the HTTP status of each."""

Record = dict[str, Any]


class Refused(Exception):
    """An error as gRPC has it: a code, and words for people."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


@dataclass
class Run:
    """`shown` is what the server says of it, `left` the steps that have not ended, `nodes` each step's times and state.

    `failing` is the step that will fail; `stopping` how often somebody has seen that it was told to stop.
    """

    shown: Record
    left: list[str]
    failing: str
    nodes: dict[str, Record] = field(default_factory=dict)
    stopping: int = 0


@dataclass
class Records:
    """Everything on the server. `failing` names a step that fails in runs made from now on, after the next runs, which
    fail in the steps of `failing_next`; `error` is what the server says of a run that failed; `on_success` does what a
    run's steps would have done, given its id and parameters; runs get on by `pace` at each look.
    """

    failing: str = ""
    error: str = ""
    failing_next: list[str] = field(default_factory=list)
    pace: int = 1
    on_success: Callable[[str, Record], None] | None = None
    pipelines: dict[str, Record] = field(default_factory=dict)
    versions: dict[str, Record] = field(default_factory=dict)
    experiments: dict[str, Record] = field(default_factory=dict)
    recurring: dict[str, Record] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    clock: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def now(self) -> str:
        """Never the same twice, so that a list by time has one order."""
        self.clock += timedelta(seconds=1)
        return self.clock.strftime("%Y-%m-%dT%H:%M:%SZ")

    def create_pipeline(self, given: Record) -> Record:
        name = given.get("name") or given.get("display_name")
        if not name:
            raise Refused(INVALID, "name is required")
        namespace = given.get("namespace", "")
        if any((old["name"], old.get("namespace", "")) == (name, namespace) for old in self.pipelines.values()):
            raise Refused(
                EXISTS, f"Failed to create a new pipeline. The name {name} already exist. Please specify a new name"
            )
        made = {**given, "pipeline_id": new_id(), "name": name, "created_at": self.now()}
        made.setdefault("display_name", name)
        return self.pipelines.setdefault(made["pipeline_id"], made)

    def upload_version(self, pipeline_id: str, name: str, text: str) -> Record:
        if pipeline_id not in self.pipelines:
            raise Refused(INVALID, "Failed to create a pipeline version")
        for old in self.versions.values():
            if (old["pipeline_id"], old["name"]) == (pipeline_id, name):
                raise Refused(EXISTS, "Failed to create a pipeline version")
        pipeline, platform = [*yaml.safe_load_all(text), {}][:2]
        try:
            json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec())
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as error:
            raise Refused(INVALID, f"Failed to parse the pipeline source: {error}") from None
        made: Record = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": new_id(),
            "name": name,
            "display_name": name,
            "created_at": self.now(),
            "pipeline_spec": {"pipeline_spec": pipeline, "platform_spec": platform},
        }
        return self.versions.setdefault(made["pipeline_version_id"], made)

    def create_experiment(self, given: Record) -> Record:
        name, namespace = given["display_name"], given.get("namespace", "")
        for old in self.experiments.values():
            if (old["display_name"], old.get("namespace", "")) == (name, namespace):
                raise Refused(
                    EXISTS,
                    f"Failed to create a new experiment. The name {name} already exists. Please specify a new name",
                )
        made = {**given, "experiment_id": new_id(), "created_at": self.now(), "storage_state": "AVAILABLE"}
        return self.experiments.setdefault(made["experiment_id"], made)

    def create_run(self, given: Record) -> Record:
        spec = self._checked(given)
        shown = {
            **given,
            "run_id": new_id(),
            "storage_state": "AVAILABLE",
            "created_at": self.now(),
            "scheduled_at": NEVER,
            "finished_at": NEVER,
            "state": "PENDING",
        }
        failing = self.failing_next.pop(0) if self.failing_next else self.failing
        self.runs[shown["run_id"]] = Run(shown, _steps(spec), failing)
        return shown

    def create_recurring(self, given: Record) -> Record:
        self._checked(given)
        trigger = given.get("trigger", {})
        if len(trigger) != 1:
            raise Refused(INVALID, "one of cron_schedule and periodic_schedule is needed")
        cron = trigger.get("cron_schedule", {}).get("cron")
        if cron is not None and len(cron.split()) != 6:
            raise Refused(INVALID, f"Schedule cron is not supported (cron: {cron!r})")
        if not 1 <= int(given.get("max_concurrency", 0)) <= 10:
            raise Refused(INVALID, "max_concurrency of a recurring run should be between 1 and 10")
        made = {**given, "recurring_run_id": new_id(), "created_at": self.now(), "updated_at": NEVER}
        made |= {"status": f"{given.get('mode', 'DISABLE')}D", "max_concurrency": str(given["max_concurrency"])}
        return self.recurring.setdefault(made["recurring_run_id"], made)

    def get_run(self, run_id: str) -> Record:
        run = self.runs.get(run_id)
        if run is None:
            raise Refused(NOT_FOUND, f"Run {run_id} not found")
        for _ in range(self.pace):
            self._get_on(run)
        return run.shown

    def terminate(self, run_id: str) -> None:
        run = self.runs.get(run_id)
        if run is None:
            raise Refused(NOT_FOUND, f"Run {run_id} not found")
        if run.shown["state"] not in ("PENDING", "RUNNING", "PAUSED"):
            raise Refused(INVALID, f"Failed to terminate a run {run_id}. Row not found")
        run.shown["state"] = "CANCELING"

    def _checked(self, given: Record) -> Record:
        """The pipeline that a run is to be of, its parameters checked as the real server checks them."""
        if given.get("experiment_id") not in self.experiments:
            raise Refused(NOT_FOUND, f"Experiment {given.get('experiment_id')} not found")
        reference = given.get("pipeline_version_reference", {})
        version = self.versions.get(reference.get("pipeline_version_id", ""))
        if version is None or version["pipeline_id"] != reference.get("pipeline_id"):
            raise Refused(NOT_FOUND, f"PipelineVersion {reference.get('pipeline_version_id')} not found")
        spec = version["pipeline_spec"]["pipeline_spec"]
        known = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        parameters = given.get("runtime_config", {}).get("parameters", {})
        for name, value in parameters.items():
            if name in known and not isinstance(value, _TYPES[known[name]["parameterType"]]):
                kind = known[name]["parameterType"].lower()
                raise Refused(INVALID, f"input parameter {name} requires type {kind}, but the value is not of it")
        if extra := sorted(set(parameters) - set(known)):
            raise Refused(INVALID, f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")
        return dict(spec)

    def _get_on(self, run: Run) -> None:
        """A step waits, works, and has ended; the exit handler runs whatever happened, unless the run is stopped."""
        if run.shown["state"] in ("SUCCEEDED", "FAILED"):
            return
        if run.shown["state"] == "CANCELING":
            run.stopping += 1
            if run.stopping > GRACE:
                self._end(run, run.left[0], "FAILED")
                run.left.clear()
        else:
            self._work(run, run.left[0])
        details = [node for name, step in run.nodes.items() for node in _nodes(run.shown["run_id"], name, step)]
        run.shown["run_details"] = {"task_details": details}
        if not run.left:
            failed = any(step["state"] == "FAILED" for step in run.nodes.values())
            if self.on_success and not failed:
                self.on_success(run.shown["run_id"], run.shown["runtime_config"]["parameters"])
            run.shown |= {"state": "FAILED" if failed else "SUCCEEDED", "finished_at": self.now()}
            if failed and self.error:
                run.shown["error"] = {"code": 13, "message": self.error}

    def _work(self, run: Run, name: str) -> None:
        run.shown["state"] = "RUNNING"
        step = run.nodes.setdefault(name, {"state": "", "start_time": NEVER, "end_time": NEVER})
        if step["state"] == "":
            step["state"] = "PENDING"
        elif step["state"] == "PENDING":
            step |= {"state": "RUNNING", "start_time": self.now()}
        elif name == run.failing:
            self._end(run, name, "FAILED")
            run.left = run.left[-1:]
        else:
            self._end(run, name, "SUCCEEDED")
            run.left.pop(0)

    def _end(self, run: Run, name: str, state: str) -> None:
        step = run.nodes.setdefault(name, {"start_time": NEVER})
        step |= {"state": state, "end_time": self.now()}


def _nodes(run_id: str, name: str, step: Record) -> list[Record]:
    """What Argo has of a step: its driver, the step itself, and the executor inside; of the fan-out's step two."""
    driver = {**step, "state": "SUCCEEDED", "display_name": f"{name}-driver"}
    own = [{**step, "display_name": display_name} for display_name in (name, "executor")]
    found = [driver, *own * (2 if name == "evaluate" else 1)]
    return [{**node, "run_id": run_id, "task_id": new_id()} for node in found]


_TYPES: dict[str, Any] = {
    "STRING": str,
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


def _steps(spec: Record) -> list[str]:
    """The tasks with a container, each after what it waits for; the exit handler last."""
    found: list[str] = []

    def visit(dag: Record) -> None:
        waiting = dict(dag["tasks"])
        while waiting:
            name = min(name for name, task in waiting.items() if not set(task.get("dependentTasks", [])) & set(waiting))
            task = waiting.pop(name)
            component = spec["components"][task["componentRef"]["name"]]
            if "dag" in component:
                visit(component["dag"])
            else:
                found.append(name)

    visit(spec["root"]["dag"])
    return found


def new_id() -> str:
    return str(uuid.uuid4())


def matches(record: Record, filter_text: str) -> bool:
    """Whether a record passes a filter, of which EQUALS on text is known here."""
    predicates = json.loads(filter_text)["predicates"] if filter_text else []
    for predicate in predicates:
        if predicate["operation"] not in (1, "EQUALS"):
            raise Refused(INVALID, f"operation {predicate['operation']} is not known to this server")
        wanted = predicate.get("stringValue", predicate.get("string_value"))
        if record.get(predicate["key"]) != wanted:
            return False
    return True
