"""`cps plan`: forecast what a run needs from a probe of a few real steps on this machine."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

import pipeline
from components import progress
from components.contract import read
from components.dataset.prepare import prepare
from components.dataset.sources.address import STORED, is_url, parse_sources
from components.dataset.stored.shared_images import FREE_SHARE
from components.disk import default_cache, state_home
from components.errors import UserError, WorkFailed
from components.files import marked_folder
from components.progress import EVENTS_VARIABLE
from components.runs.planning.plan import PlannedRun, plan_run
from components.runs.planning.probes import EvaluationProbe, TrainingProbe, WorkProbe
from components.runs.request import RunRequest
from components.step_guard import PARENT_VARIABLE, USERS_MISTAKE
from components.units import memory_text
from pipeline.local.environment import resolve_environment, store_of
from pipeline.local.run import EventFile
from pipeline.local.services import PLAN, PLAN_SERVICES, end_killed_plans, services_down, services_up

PROBES = {
    "training": "components.training.probe",
    "evaluation": "components.evaluation.probe",
    "work": "components.training.batches.probe",
}
Model = TypeVar("Model", bound=BaseModel)
_LOG_TAIL = 2000


@dataclass(frozen=True)
class Probes:
    """The measurements of both probes."""

    training: TrainingProbe
    evaluation: EvaluationProbe


@dataclass(frozen=True)
class Limits:
    """The limits of a run; None is unknown and not checked."""

    memory: int | None = None
    """Memory of the pod or machine that trains, in bytes."""
    shm: int | None = None
    disk: int | None = None
    """Free bytes in the object store."""
    hours: float | None = None


@dataclass(frozen=True)
class Forecast:
    """Time and space for a whole run on this machine, with one training process and one evaluation task."""

    steps: int
    training_seconds: float
    evaluation_seconds: float
    memory_bytes: int
    """The larger resident set of the two probes, plus the decoded images."""
    decoded_bytes: int
    """Size of all decoded training images and labels, which go to /dev/shm as far as they fit."""
    storage_bytes: int
    """Peak use of the object store: dataset, all checkpoints, two recovery states during training, best weights."""

    @property
    def seconds(self) -> float:
        return self.training_seconds + self.evaluation_seconds


def probe(request: RunRequest, steps: int) -> tuple[PlannedRun, Probes]:
    """Train a few steps of the run that `request` defines, score some images, and return both measurements.

    Prepares the dataset in a temporary object store, or reads a stored dataset from the user's store. The training
    writes to neither.

    Raises:
        UserError: the parameters or the dataset are invalid.
        WorkFailed: a probe did not finish, for example because it ran out of memory.
    """
    with _planned(request) as (run, folder, services):
        (folder / "probe.json").write_text(json.dumps({"steps": steps}))
        training = _probe("training", TrainingProbe, folder, services)
        return run, Probes(training, _probe("evaluation", EvaluationProbe, folder, services))


def probe_work(request: RunRequest) -> tuple[PlannedRun, WorkProbe]:
    """Count the arithmetic of a run and time the loader, without training. Raises what `probe` raises."""
    with _planned(request) as (run, folder, services):
        return run, _probe("work", WorkProbe, folder, services)


@contextmanager
def _planned(request: RunRequest) -> Iterator[tuple[PlannedRun, Path, dict[str, str]]]:
    """Yield the run, a folder with run.json and split.json, and the environment of a store that has its dataset."""
    end_killed_plans()
    with (
        marked_folder(PLAN, os.environ.get("CPS_WORK")) as (folder, _),
        _dataset(request, folder) as (digest, services),
    ):
        run = plan_run(store_of(services), digest, request)
        (folder / "run.json").write_text(run.record().model_dump_json())
        (folder / "split.json").write_text(run.split.model_dump_json())
        yield run, folder, services


def forecast(found: Probes, limits: Limits) -> Forecast:
    """Return what the whole run needs.

    The size of /dev/shm, in `limits` or otherwise on this machine, determines how many decoded images are shared and
    how many each process keeps.
    """
    training, evaluation = found.training, found.evaluation
    decoded = int(training.decoded_bytes)
    shm = training.shm_bytes if limits.shm is None else limits.shm
    shared = min(decoded, int(FREE_SHARE * shm))
    kept = min(decoded - shared, int(training.private_bytes))
    count, size = training.checkpoints, training.checkpoint_bytes
    each = evaluation.open_seconds + evaluation.images * evaluation.image_seconds
    return Forecast(
        steps=training.steps,
        training_seconds=training.seconds,
        evaluation_seconds=evaluation.start_seconds + count * each,
        memory_bytes=max(training.peak_rss_bytes + shared + kept, evaluation.peak_rss_bytes),
        decoded_bytes=decoded,
        storage_bytes=training.dataset_bytes + (count + 1) * size + 2 * training.recovery_bytes,
    )


def exceeded(expected: Forecast, limits: Limits) -> list[str]:
    """Return one line for each limit that the run exceeds."""
    found = []
    if limits.memory is not None and expected.memory_bytes > limits.memory:
        found.append(f"memory: needs {memory_text(expected.memory_bytes)}, limit {memory_text(limits.memory)}")
    if limits.disk is not None and expected.storage_bytes > limits.disk:
        found.append(f"storage: needs {memory_text(expected.storage_bytes)}, limit {memory_text(limits.disk)}")
    if limits.hours is not None and expected.seconds > 3600 * limits.hours:
        found.append(f"time: needs {expected.seconds / 3600:.1f} h, limit {limits.hours:g} h")
    return found


def slowdowns(expected: Forecast, limits: Limits) -> list[str]:
    """Return warnings about limits that make the run slower."""
    if limits.shm is None or expected.decoded_bytes <= FREE_SHARE * limits.shm:
        return []
    return [
        f"/dev/shm: decoded images take {memory_text(expected.decoded_bytes)}, but only half of "
        f"{memory_text(limits.shm)} is used: each process caches up to 1.0 GiB of the rest and decodes the others on "
        "every use"
    ]


def forecast_json(run: PlannedRun, found: Probes, expected: Forecast, limits: Limits, problems: list[str]) -> str:
    shown = {
        "run_key": run.key,
        "probe": {
            "training": found.training.model_dump(mode="json"),
            "evaluation": found.evaluation.model_dump(mode="json"),
        },
        "forecast": {**asdict(expected), "seconds": expected.seconds},
        "limits": asdict(limits),
        "fits": not problems,
        "problems": [*problems],
        "warnings": [*slowdowns(expected, limits)],
    }
    return json.dumps(shown, indent=2)


@contextmanager
def _dataset(request: RunRequest, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the digest of the dataset, and the environment of a store that contains it."""
    sources = parse_sources(request.dataset, request.dataset_sha256)
    if sources[0].text.startswith(STORED):
        services = resolve_environment(state_home(), tracking=False)
        yield _prepared(request, services, folder), services
        return
    if any(is_url(source.text) and source.text.startswith("s3://") for source in sources):
        raise UserError(
            f"--dataset {request.dataset}: `cps plan` cannot read s3:// sources. Use stored:DIGEST if a run has "
            "already prepared the dataset, or a file or folder"
        )
    home = folder / PLAN_SERVICES
    # The environment's settings for the user's store must not affect this one.
    foreign = {name: "" for name in os.environ if name.startswith("AWS_") or name == "CPS_BUCKET"}
    try:
        services = {**foreign, **services_up(home, tracking=False).environment}
        yield _prepared(request, services, folder), services
    finally:
        services_down(home)


def _prepared(request: RunRequest, services: Mapping[str, str], folder: Path) -> str:
    store, cache = store_of(services), default_cache()
    sources = request.dataset, request.dataset_sha256
    return prepare(*sources, store, folder, pools=request.dataset_pools, cache_dir=cache).digest


def _probe(what: str, model: type[Model], folder: Path, services: Mapping[str, str]) -> Model:
    """Run a probe in a separate process, so that its memory use is the probe's alone."""
    progress.say("plan", f"probing: {what}")
    events = EventFile(folder / f"{what}-events.jsonl")
    environment = {**os.environ, **services, EVENTS_VARIABLE: str(events.path), PARENT_VARIABLE: str(os.getpid())}
    environment.pop("MLFLOW_TRACKING_URI", None)
    root = Path(pipeline.__file__).resolve().parents[1]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-m", PROBES[what], str(folder)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return read(model, json.loads((folder / f"{what}.json").read_text()), f"the probe of the {what}")
    told = [event["text"] for event in events.read() if event["kind"] == "failure"]
    if done.returncode == USERS_MISTAKE and told:
        raise UserError(told[0])
    if done.returncode == -signal.SIGKILL:
        raise WorkFailed(
            f"the probe of the {what} was killed (SIGKILL: out of memory?): the run does not fit on this machine"
        )
    print(done.stdout[-_LOG_TAIL:], file=sys.stderr)
    raise WorkFailed(f"the probe of the {what} failed: {told[0] if told else f'exit code {done.returncode}'}")
