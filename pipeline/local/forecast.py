"""`cps plan`: what a run will need, forecast from a probe of a few real steps on this machine."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

import pipeline
from components import progress
from components.contract import read
from components.dataset.prepare import prepare
from components.dataset.sources.address import STORED, is_url, parse_sources
from components.dataset.stored.shared_images import FREE_SHARE
from components.errors import UserError, WorkFailed
from components.files import default_cache
from components.progress import EVENTS_VARIABLE
from components.runs.planning import PlannedRun, plan_run
from components.runs.probes import EvaluationProbe, TrainingProbe
from components.runs.request import RunRequest
from components.step_guard import USERS_MISTAKE
from components.storage.client import Store
from components.storage.settings import settings_from_environment
from components.units import memory_text
from pipeline.local.environment import resolve_environment, state_home
from pipeline.local.run import EventFile
from pipeline.local.services import services_down, services_up

if TYPE_CHECKING:
    from pydantic import JsonValue

PROBES = {"training": "components.training.probe", "evaluation": "components.evaluation.probe"}
Model = TypeVar("Model", bound=BaseModel)
_LOG_TAIL = 2000


@dataclass(frozen=True)
class Probes:
    """What both probes measured."""

    training: TrainingProbe
    evaluation: EvaluationProbe


@dataclass(frozen=True)
class Limits:
    """What there is; None is not known, and nothing is said of it."""

    memory: int | None = None
    """Bytes, of the pod or machine that trains."""
    shm: int | None = None
    disk: int | None = None
    """Bytes that the object store has left."""
    hours: float | None = None


@dataclass(frozen=True)
class Forecast:
    """Of a whole run on this machine, in one training process and one evaluation task. Bytes and seconds."""

    steps: int
    training_seconds: float
    evaluation_seconds: float
    memory_bytes: int
    """The largest resident set of both probes, and what decoded images will add to it."""
    decoded_bytes: int
    """Of all training images and labels: what they take of /dev/shm where there is room."""
    storage_bytes: int
    """Of the object store at most: dataset, all checkpoints, two recoveries while it trains, the best weights."""

    @property
    def seconds(self) -> float:
        return self.training_seconds + self.evaluation_seconds


def probe(request: RunRequest, steps: int) -> tuple[PlannedRun, Probes]:
    """Train a few steps of the run that `request` makes, and score some images; return what both measured.

    The dataset is prepared in an object store of the probe's own, which is removed, unless it is a stored one:
    then the user's store is read. Neither is written to by the training.

    Raises:
        UserError: the parameters or the dataset are wrong.
        WorkFailed: a probe could not be finished, as where memory did not suffice.
    """
    with tempfile.TemporaryDirectory(prefix="cps-plan-", dir=os.environ.get("CPS_WORK")) as name:
        folder = Path(name)
        with _dataset(request, folder) as (digest, services):
            run = plan_run(Store(settings_from_environment(services)), digest, request)
            (folder / "run.json").write_text(run.record().model_dump_json())
            (folder / "split.json").write_text(run.split.model_dump_json())
            (folder / "probe.json").write_text(json.dumps({"steps": steps}))
            training = _probe("training", TrainingProbe, folder, services)
            return run, Probes(training, _probe("evaluation", EvaluationProbe, folder, services))


def forecast(found: Probes, limits: Limits) -> Forecast:
    """What the whole run needs.

    How much of the decoded images is shared, and how much a process keeps for itself, depends on /dev/shm: that of
    `limits`, else this machine's.
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
        training_seconds=training.start_seconds + training.steps * training.step_seconds,
        evaluation_seconds=evaluation.start_seconds + count * each,
        memory_bytes=max(training.peak_rss_bytes + shared + kept, evaluation.peak_rss_bytes),
        decoded_bytes=decoded,
        storage_bytes=training.dataset_bytes + (count + 1) * size + 2 * training.recovery_bytes,
    )


def too_much(expected: Forecast, limits: Limits) -> list[str]:
    """What will not fit, a line each."""
    found = []
    if limits.memory is not None and expected.memory_bytes > limits.memory:
        found.append(f"memory: {memory_text(expected.memory_bytes)} are needed, {memory_text(limits.memory)} given")
    if limits.disk is not None and expected.storage_bytes > limits.disk:
        found.append(f"storage: {memory_text(expected.storage_bytes)} are needed, {memory_text(limits.disk)} given")
    if limits.hours is not None and expected.seconds > 3600 * limits.hours:
        found.append(f"time: {expected.seconds / 3600:.1f} h are needed, {limits.hours:g} h given")
    return found


def slower(expected: Forecast, limits: Limits) -> list[str]:
    """What fits, and costs time."""
    if limits.shm is None or expected.decoded_bytes <= FREE_SHARE * limits.shm:
        return []
    return [
        f"/dev/shm: decoded images take {memory_text(expected.decoded_bytes)}, and half of {memory_text(limits.shm)} "
        "is used: each process keeps up to 1.0 GiB of the rest, and what is left is decoded anew every time"
    ]


def as_dict(
    run: PlannedRun, found: Probes, expected: Forecast, limits: Limits, problems: list[str]
) -> "dict[str, JsonValue]":
    return {
        "run_key": run.key,
        "probe": {
            "training": found.training.model_dump(mode="json"),
            "evaluation": found.evaluation.model_dump(mode="json"),
        },
        "forecast": {**asdict(expected), "seconds": expected.seconds},
        "limits": asdict(limits),
        "fits": not problems,
        "problems": [*problems],
        "warnings": [*slower(expected, limits)],
    }


@contextmanager
def _dataset(request: RunRequest, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The digest of the dataset, and the environment of a store that has it."""
    sources = parse_sources(request.dataset, request.dataset_sha256)
    if sources[0].text.startswith(STORED):
        services = resolve_environment(state_home(), tracking=False)
        yield _prepared(request, services, folder), services
        return
    if any(is_url(source.text) and source.text.startswith("s3://") for source in sources):
        raise UserError(
            f"--dataset {request.dataset}: a plan reads no s3:// source; give stored:DIGEST where a run has "
            "prepared it before, or a file or folder"
        )
    home = folder / "services"
    # What the environment says of the user's own store is not for this one.
    foreign = {name: "" for name in os.environ if name.startswith("AWS_") or name == "CPS_BUCKET"}
    try:
        services = {**foreign, **services_up(home, tracking=False).environment}
        yield _prepared(request, services, folder), services
    finally:
        services_down(home)


def _prepared(request: RunRequest, services: Mapping[str, str], folder: Path) -> str:
    store, cache = Store(settings_from_environment(services)), default_cache()
    sources = request.dataset, request.dataset_sha256
    return prepare(*sources, store, folder, pools=request.dataset_pools, cache_dir=cache).digest


def _probe(what: str, model: type[Model], folder: Path, services: Mapping[str, str]) -> Model:
    """Run a probe in a process of its own, whose memory is then the probe's alone."""
    progress.say("plan", f"probing: {what}")
    events = EventFile(folder / f"{what}-events.jsonl")
    environment = {**os.environ, **services, EVENTS_VARIABLE: str(events.path)}
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
        raise WorkFailed(f"the probe of the {what} was killed (SIGKILL: out of memory?): the run does not fit here")
    print(done.stdout[-_LOG_TAIL:], file=sys.stderr)
    raise WorkFailed(f"the probe of the {what} failed: {told[0] if told else f'exit code {done.returncode}'}")
