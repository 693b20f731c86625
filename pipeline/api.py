"""The Python API, for notebooks and scripts on this machine: `components.api`, and what needs the pipeline.

    from pipeline import api

    api.connect()
    finished = api.run(dataset="photos", labeled_ratio="1/4")
    model = api.load_model(finished.result.run_key)

See docs/python-api.md. Importing it is fast: it imports neither Paddle nor kfp.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from components.addresses import past_proxies
from components.api import (
    ImageLike,
    Model,
    Prediction,
    UserError,
    WorkFailed,
    checkpoint_figures,
    class_figures,
    find_run_key,
    list_runs,
    load_model,
    training_curve,
)
from components.api.faults import explaining
from components.errors import nearest
from pipeline.parameters import STEPS, PipelineParameters, local_request

if TYPE_CHECKING:
    from pydantic import JsonValue

    from components.progress import Event
    from pipeline.local.outcome import LocalResult

__all__ = [
    "ImageLike",
    "Model",
    "Prediction",
    "Progress",
    "RunOptions",
    "UserError",
    "WorkFailed",
    "checkpoint_figures",
    "class_figures",
    "connect",
    "find_run_key",
    "list_runs",
    "load_model",
    "run",
    "training_curve",
]


class RunOptions(TypedDict, total=False):
    """The options of a run, with the names and defaults of the pipeline's parameters; see `cps run --help`."""

    dataset: str
    """A folder, an archive, a URL, or `scenes` (the default) for generated images."""
    dataset_sha256: str
    dataset_pools: str
    labeled_ratio: str
    """The share of the labels to use, such as 1/8; `auto` (the default) uses all, or 1/8 of the generated scenes."""
    recipe: str
    """A built-in recipe, the path of a .yaml file, or `auto` (the default)."""
    overrides: "Mapping[str, JsonValue]"
    """Changes to the recipe's settings, by dotted name, such as {"optimization.learning_rate": 0.01}."""
    seed: int
    epochs: int
    batch_size: int
    processes: int
    gpus: int
    predict_images: str
    predict_limit: int


@dataclass(frozen=True)
class Progress:
    """A report from a run that is in progress."""

    step: str
    """The step that reports: prepare-dataset, split-labels, train, evaluate, select, predict or finish."""
    text: str
    """A message, or a note such as the current loss."""
    done: float | None = None
    total: float | None = None
    """`done` of `total` units of the step are complete; both None for a message."""


_DEFAULTS: dict[str, Any] = {"dataset": "scenes", "recipe": "auto", "overrides": {}, "predict_images": "val"}
_set_by_connect: dict[str, str] = {}


def connect(*, tracking: bool = True) -> None:
    """Make this process use the services that the environment names, or else this machine's embedded ones.

    Embedded services are started if they are not running; they keep running until `cps down`. Their addresses and
    credentials are set in this process's environment, where all functions of the API find them. Their state is in
    `.cps` in the current directory, or in CPS_HOME. Call it again if the services have been restarted.

    Args:
        tracking: also start MLflow and wait for it, which takes some seconds. Only @champion needs it.

    Raises:
        UserError: a service cannot be started or reached, or a package is not installed.
    """
    for name, value in _set_by_connect.items():
        if os.environ.get(name) == value:
            del os.environ[name]
    _set_by_connect.clear()
    with explaining():
        from components.disk import state_home
        from pipeline.local.environment import resolve_environment, tracking_environment

        os.environ.update(past_proxies(os.environ))
        found = resolve_environment(state_home(), tracking=tracking)
        if tracking:
            tracking_environment()  # waits until it answers
    _set_by_connect.update({name: value for name, value in found.items() if os.environ.get(name) != value})
    os.environ.update(_set_by_connect)


def run(on_progress: Callable[[Progress], None] | None = None, **options: Unpack[RunOptions]) -> "LocalResult":
    """Run the whole pipeline on this machine, as `cps run` does, and wait until it ends.

    Finished work is not repeated: the same call resumes an interrupted run, and finds a finished one. The steps run in
    processes of their own. In the main thread, an interrupt (Ctrl-C, or a notebook's stop button) lets them save their
    work first; a second one stops them at once.

    Args:
        on_progress: is called with each report, in this thread. By default, progress is printed as by `cps run`. An
            exception that it raises stops the run at once and passes to the caller; the same call resumes the run.
        options: see RunOptions.

    Returns:
        The result: `result.run_key`, `result.best.mIoU` and the other metrics, and the local paths of the report and
        the gallery in `files`.

    Raises:
        UserError: an option or the dataset is invalid, a package is not installed, or a service cannot be reached.
        WorkFailed: a step failed; the message names it and the log.
        KeyboardInterrupt: the run was interrupted and can be resumed.
    """
    with explaining():
        from components.disk import state_home
        from pipeline.cli.progress import display
        from pipeline.local.complete import complete_outcome
        from pipeline.local.environment import store_of
        from pipeline.local.forecast.durations import earlier_durations
        from pipeline.local.jobs import run_of
        from pipeline.local.outcome import collect_outcome
        from pipeline.local.run import run_locally, services_for_run

        parameters = _parameters(options)
        if parameters.resources.gpus:
            from components.training.supervision.resources import check_gpus

            check_gpus(parameters.resources.gpus)
        home = state_home()
        os.environ.update(past_proxies(os.environ))
        is_known = bool(run_of(home, parameters.run))
        environment = services_for_run(home, tracking=not is_known)
        outcome = complete_outcome(parameters, store_of(environment), home, environment) if is_known else None
        if outcome is None:
            environment = services_for_run(home)
            with display(steps=STEPS, earlier=partial(earlier_durations, home)) as draw:
                report = draw if on_progress is None else _reporter(on_progress)
                outcome = run_locally(parameters, home=home, environment=environment, on_event=report)
        if outcome.exit_code > _SIGNALLED:
            raise KeyboardInterrupt("the run was interrupted: the same call resumes it")
        if outcome.exit_code:
            error = UserError if outcome.exit_code == _MISTAKE else WorkFailed
            raise error(f"{outcome.failure or 'the pipeline ended without an error message'} (log: {outcome.log})")
        return collect_outcome(outcome, home, environment)


_MISTAKE, _SIGNALLED = 2, 128


def _parameters(options: RunOptions) -> PipelineParameters:
    from pydantic import ValidationError

    from components.contract import problem_text

    for name in options:
        if name not in RunOptions.__annotations__:
            valid = ", ".join(RunOptions.__annotations__)
            raise UserError(f"run has no option {name!r}{nearest(name, RunOptions.__annotations__)}; it has {valid}")
    try:
        return local_request(**{"eval_shards": 1, **_DEFAULTS, **options})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(f"{where} is {problem['input']!r}: it {problem_text(problem)}") from None


def _reporter(on_progress: Callable[[Progress], None]) -> "Callable[[Event], None]":
    def report(event: "Event") -> None:
        if event["kind"] == "advance":
            on_progress(Progress(event["step"], event["note"], event["done"], event["total"]))
        elif event["kind"] == "say":
            on_progress(Progress(event["step"], event["text"]))

    return report
