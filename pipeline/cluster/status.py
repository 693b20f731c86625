"""The status of runs on a KFP server: each step's state, derived from the many nodes that the server lists."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from components.errors import WorkFailed, find_one
from components.units import seconds_text
from pipeline.cluster.client import EXPLANATION, UNKNOWN_FIELD, Server, Unreachable
from pipeline.cluster.submission import find_pipeline
from pipeline.parameters import STEPS

FIRST_STEP = STEPS[0]

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_WORST_FIRST = ("FAILED", "CANCELED", "RUNNING", "PENDING", "PAUSED", "CANCELING", "SUCCEEDED", "SKIPPED")

PAGE = 100
UUID_LENGTH = 36
POLL_SECONDS = 3.0
AWAY_SECONDS = 600.0
"""How long the server may be unreachable while a run is watched."""


@dataclass(frozen=True)
class StepStatus:
    """The status of one step. `done` of its `total` tasks have succeeded; only `evaluate` has more than one."""

    name: str
    state: str
    seconds: float
    done: int
    total: int


@dataclass(frozen=True)
class RunStatus:
    """The status of a run. Times are ISO 8601 in UTC, or empty if not known yet."""

    run_id: str
    name: str
    state: str
    experiment_id: str
    created: str
    finished: str
    error: str
    parameters: dict[str, Any]
    steps: tuple[StepStatus, ...]
    waiting: tuple[str, ...] = ()
    """What the run or its watcher waits for, and why: one line each."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def as_dict(self) -> dict[str, Any]:
        steps = {step.name: {"state": step.state, "seconds": round(step.seconds, 1)} for step in self.steps}
        own = {name: getattr(self, name) for name in ("run_id", "name", "state", "created", "finished", "error")}
        return {**own, "parameters": self.parameters, "steps": steps}


def run_status(server: Server, run_id: str) -> RunStatus:
    """Return the status of a run. Raises UserError if the server does not have it."""
    return _status(server.call(server.client.get_run, run_id))


def list_runs(server: Server, limit: int = 50) -> list[RunStatus]:
    """Return at most `limit` runs of this pipeline, newest first."""
    pipeline_id, found, token = find_pipeline(server), list[RunStatus](), ""
    while pipeline_id and len(found) < limit:
        page = server.call(
            server.client.list_runs,
            page_token=token,
            page_size=PAGE,
            sort_by="created_at desc",
            namespace=server.namespace,
        )
        found += [_status(run) for run in page.runs or [] if _is_of(run, pipeline_id)]
        token = page.next_page_token or ""
        if not token:
            break
    return found[:limit]


def find_run(server: Server, given: str) -> RunStatus:
    """Return the run with this id or unique id prefix, or the newest with this name. Raises UserError."""
    if len(given) == UUID_LENGTH:
        return run_status(server, given)
    found = {run.run_id: run.name for run in list_runs(server, limit=2 * PAGE)}
    named = [run_id for run_id, name in found.items() if name == given]
    if named and not any(run_id.startswith(given) for run_id in found):
        return run_status(server, named[0])
    what = f"run among the newest on {server.address}"
    return run_status(server, find_one(given, found, what, lambda run_id: f"{found[run_id]} ({run_id})"))


def terminate(server: Server, run_id: str) -> None:
    """Ask the server to stop a run. Its steps end within seconds, and its exit handler does not run."""
    server.call(server.client.terminate_run, run_id)


def follow(
    server: Server,
    run_id: str,
    on_status: Callable[[RunStatus], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> RunStatus:
    """Pass each status of a run to `on_status` until the run ends, and return the last one.

    While the server is unreachable, the field `waiting` says so. Raises WorkFailed if it is for longer than
    AWAY_SECONDS; the run itself continues.
    """
    [last] = follow_all(server, [run_id], on_status, sleep=sleep)
    return last


def follow_all(
    server: Server,
    run_ids: Sequence[str],
    on_status: Callable[[RunStatus], None],
    *,
    more: Callable[[int], Sequence[str]] = lambda _going_on: (),
    sleep: Callable[[float], None] = time.sleep,
) -> list[RunStatus]:
    """Follow several runs, like `follow`, until all have ended.

    In every round, `more` receives the number of active runs and returns the ids of further runs to follow.
    """
    followed, last = list(run_ids), dict[str, RunStatus]()
    away_since, canceling = 0.0, set[str]()
    while True:
        going_on = [run_id for run_id in followed if run_id not in last or not last[run_id].ended]
        new = more(len(going_on))
        followed += new
        going_on += new
        if not going_on:
            return [last[run_id] for run_id in followed]
        if last or away_since:
            sleep(POLL_SECONDS)
        for run_id in going_on:
            try:
                status = run_status(server, run_id)
            except Unreachable as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > AWAY_SECONDS:
                    raise WorkFailed(f"{error}; run {run_id} may still be active: `cps runs watch {run_id}`") from None
                waiting = f"{error}; trying for up to {seconds_text(AWAY_SECONDS)}, and the run goes on meanwhile"
                for known in [last[each] for each in going_on if each in last]:
                    on_status(replace(known, waiting=(waiting,)))
                break
            away_since = 0.0
            # The server reports a terminated run as failed once it has ended.
            if status.state == "CANCELING":
                canceling.add(run_id)
            if run_id in canceling and status.state == "FAILED":
                status = replace(status, state="CANCELED")
            last[run_id] = status
            on_status(status)


def may_succeed_again(status: RunStatus) -> bool:
    """Return whether the same run may succeed if it is submitted again, resuming from what its steps have stored.

    Not so if it was terminated, or if its first step failed: a parameter or the dataset is wrong then.
    """
    return status.state == "FAILED" and not any(
        step.name == FIRST_STEP and step.state == "FAILED" for step in status.steps
    )


def failure(status: RunStatus, url: str) -> str:
    """Return a one-line message about a run that did not succeed."""
    failed = [step.name for step in status.steps if step.state == "FAILED"]
    if status.state == "CANCELED":
        what = "was terminated"
    elif failed:
        what = f"failed in step {failed[0]!r}"
    else:
        what = f"ended as {status.state}"
    reason = f": {status.error}" if status.error else ""
    if UNKNOWN_FIELD in status.error:
        reason += f"; the KFP server rejected the pipeline because {EXPLANATION}"
    return f"run {status.name} {what}{reason}" + (f"; see its log at {url}" if url else f" ({status.run_id})")


def _is_of(run: Any, pipeline_id: str) -> bool:
    reference = run.pipeline_version_reference
    return reference is not None and reference.pipeline_id == pipeline_id


def _status(run: Any) -> RunStatus:
    tasks = run.run_details.task_details if run.run_details else None
    config = run.runtime_config
    return RunStatus(
        run_id=str(run.run_id),
        name=str(run.display_name or ""),
        # A run has no state until the controller has processed it.
        state=_state(run.state),
        experiment_id=str(run.experiment_id or ""),
        created=_time(run.created_at),
        finished=_time(run.finished_at),
        error=" ".join((run.error.message or "").split()) if run.error else "",
        parameters=dict(config.parameters or {}) if config else {},
        steps=tuple(_steps(tasks or [])),
    )


def _steps(tasks: Iterable[Any]) -> list[StepStatus]:
    """Return the status of each step. The server also lists drivers and DAGs; a step is all nodes with its name."""
    by_name: dict[str, list[Any]] = {name: [] for name in STEPS}
    for task in tasks:
        if task.display_name in by_name:
            by_name[task.display_name].append(task)
    found = []
    for name, nodes in by_name.items():
        states = [_state(node.state) for node in nodes]
        state = next((state for state in _WORST_FIRST if state in states), "") if nodes else ""
        done = states.count("SUCCEEDED")
        found.append(StepStatus(name, state, _seconds(nodes), done, len(nodes)))
    return found


def _seconds(nodes: list[Any]) -> float:
    """Return the seconds from the first start to the last end, or to now if a node is still running."""
    starts = [node.start_time for node in nodes if _is_time(node.start_time)]
    if not starts:
        return 0.0
    running = any(not _is_time(node.end_time) for node in nodes)
    end = datetime.now(UTC) if running else max(node.end_time for node in nodes)
    return max(0.0, float((end - min(starts)).total_seconds()))


def _state(state: Any) -> str:
    text = str(state or "PENDING")
    return "PENDING" if text == "RUNTIME_STATE_UNSPECIFIED" else text


def _is_time(value: datetime | None) -> bool:
    """Return whether a time is set. The server uses the year 1970 for unset times, older versions the year 1."""
    return value is not None and value.year > 1970


def _time(value: datetime | None) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds") if value is not None and _is_time(value) else ""
