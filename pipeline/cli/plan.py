"""`cps plan`: what a run will need, before anything is paid for."""

import json
from typing import TYPE_CHECKING, Any

import click

from components.errors import UserError, WorkFailed
from components.units import memory_text, parse_size
from pipeline.cli.options import DATASET, LENGTH, RATIO, RECIPE, SEED, quiet_option, with_options
from pipeline.cli.signals import on_interrupt
from pipeline.parameters import local_parameters

if TYPE_CHECKING:
    from pipeline.local.forecast import Forecast, Limits, Probes


@click.command(short_help="Forecast what a run will need, from a few real steps.")
@with_options(DATASET, RATIO, RECIPE, SEED, LENGTH)
@click.option("--steps", default=8, show_default=True, type=click.IntRange(1, 1000), help="Steps that are timed.")
@click.option("--memory", default="", help="What the pod or machine that trains has, such as 8GiB.")
@click.option("--shm", default="", help="What its /dev/shm has.")
@click.option("--disk", default="", help="What the object store has left.")
@click.option("--hours", default=0.0, type=click.FloatRange(0), help="How long the run may take.")
@click.option("--pod", is_flag=True, help="Memory, /dev/shm and hours as the compiled training step has them.")
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON on standard output.")
@quiet_option
@on_interrupt("a plan keeps nothing, and the same command begins again")
def plan(steps: int, memory: str, shm: str, disk: str, hours: float, pod: bool, as_json: bool, **options: Any) -> None:
    """Forecast what a run will need: time, memory, /dev/shm and storage.

    A few real training steps are made and some images scored, on this machine, in one process, with the batch and
    images of the run. No store keeps anything of it: the dataset is prepared in one that is removed again, or read from
    yours as stored:DIGEST. The forecast is for this machine; none is made for another one, and a GPU's memory is not
    looked at. Prediction and pages are not in it. Exit code 1 where the run does not fit what is given.

    \b
    Examples:
      cps plan
      cps plan --dataset photos/ --ratio 1/4 --memory 8GiB --shm 1GiB --disk 50GiB --hours 6
      cps plan --pod --json | jq .forecast
    """
    from pipeline.local.forecast import as_dict, forecast, probe, slower, too_much

    limits = _limits(memory, shm, disk, hours, pod=pod)
    planned, found = probe(local_parameters(**options).run, steps)
    expected = forecast(found, limits)
    problems = too_much(expected, limits)
    if as_json:
        click.echo(json.dumps(as_dict(planned, found, expected, limits, problems), indent=2))
    else:
        click.echo("\n".join(_table(found, expected, limits)))
    for line in slower(expected, limits):
        click.echo(f"cps: warning: {line}", err=True)
    if problems:
        raise WorkFailed(f"{planned.key} does not fit: {'; '.join(problems)}")


def _size(option: str, text: str) -> int:
    size = parse_size(text)
    if not size:
        raise UserError(f"--{option} {text!r} must be an amount such as 8GiB, 8Gi or 500MB")
    return size


def _limits(memory: str, shm: str, disk: str, hours: float, *, pod: bool) -> "Limits":
    from pipeline.local.forecast import Limits

    if pod:
        from components.runs.request import Resources
        from pipeline.placement import SHARED_MEMORY, TRAINING_HOURS

        default = Resources().memory
        memory, shm, hours = memory or default, shm or SHARED_MEMORY, hours or TRAINING_HOURS
    sizes = {"memory": memory, "shm": shm, "disk": disk}
    return Limits(**{name: _size(name, text) for name, text in sizes.items() if text}, hours=hours or None)


def _table(found: "Probes", expected: "Forecast", limits: "Limits") -> list[str]:
    from components.units import seconds_text

    training, evaluation = found.training, found.evaluation
    low, high = training.step_seconds_range
    trained = (
        f"{training.epochs} epochs, {expected.steps} steps of {training.step_seconds:.3g} s "
        f"({low:.3g} to {high:.3g} in {training.steps_probed})"
    )
    each = f"{evaluation.image_seconds:.3g} s each"
    scored = f"{training.checkpoints} checkpoints on {evaluation.images} images, {each}"
    stored = (
        f"{training.checkpoints} checkpoints of {memory_text(training.checkpoint_bytes)}, two recoveries of "
        f"{memory_text(training.recovery_bytes)}, the dataset's {memory_text(training.dataset_bytes)}, "
        "best weights"
    )
    resident = f"resident {memory_text(training.peak_rss_bytes)} in training, and decoded images"
    given = {"time": f"{limits.hours:g} h" if limits.hours else ""}
    given |= {
        name: memory_text(size) if size else ""
        for name, size in (("memory", limits.memory), ("/dev/shm", limits.shm), ("storage", limits.disk))
    }
    rows = [
        ("training", seconds_text(expected.training_seconds), "", trained),
        ("evaluation", seconds_text(expected.evaluation_seconds), "", scored),
        ("time", seconds_text(expected.seconds), given["time"], "both, one after the other, on this machine"),
        ("memory", memory_text(expected.memory_bytes), given["memory"], resident),
        (
            "/dev/shm",
            memory_text(expected.decoded_bytes),
            given["/dev/shm"],
            "decoded training images, if there is room",
        ),
        ("storage", memory_text(expected.storage_bytes), given["storage"], stored),
    ]
    return [f"{'':<12}{'forecast':<14}{'given':<12}", *(f"{a:<12}{b:<14}{c:<12}{d}" for a, b, c, d in rows)]
