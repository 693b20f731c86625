"""`cps plan`: forecast what a run needs before you start it."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from components.errors import UserError, WorkFailed
from components.units import memory_text, parse_size
from pipeline.cli.options import DATASET, LENGTH, RATIO, RECIPE, SEED, quiet_option, with_options
from pipeline.cli.signals import on_interrupt
from pipeline.parameters import local_parameters

if TYPE_CHECKING:
    from pipeline.local.forecast.this_machine import Forecast, Limits, Probes


@click.command(short_help="Forecast what a run needs, from a few real steps.")
@with_options(DATASET, RATIO, RECIPE, SEED, LENGTH)
@click.option("--steps", default=8, show_default=True, type=click.IntRange(1, 1000), help="Training steps to time.")
@click.option("--memory", default="", help="Memory limit of the pod or machine that trains, such as 8GiB.")
@click.option("--shm", default="", help="Size of its /dev/shm, such as 1GiB.  [default: this machine's]")
@click.option("--disk", default="", help="Free space in the object store, such as 50GiB.")
@click.option("--hours", default=0.0, type=click.FloatRange(0), help="Time limit of the run, in hours.")
@click.option("--pod", is_flag=True, help="Use the memory, /dev/shm and time limits of the compiled training step.")
@click.option("--gpu", default="", help="Forecast the time on this GPU instead: H100, A100, L4, …, or its TFLOP/s.")
@click.option("--gpus", default=1, show_default=True, type=click.IntRange(1), help="With --gpu, cards that train.")
@click.option("--json", "as_json", is_flag=True, help="Print the measurements and the forecast as JSON.")
@quiet_option
@on_interrupt("nothing was kept; run the same command again to start over")
@click.pass_context
def plan(
    context: click.Context,
    /,
    steps: int,
    memory: str,
    shm: str,
    disk: str,
    hours: float,
    pod: bool,
    gpu: str,
    gpus: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Forecast what a run needs: time, memory, /dev/shm and storage.

    Runs a few real training steps and scores a few images on this machine, in one process, with the run's batch size
    and images. Prepares the dataset in a temporary object store, or reads it from yours with stored:DIGEST; nothing is
    kept. The forecast is valid for this machine only and does not cover GPU memory, prediction or HTML pages.

    Exit code 1 if the run exceeds a limit given with --memory, --disk, --hours or --pod. A /dev/shm that is too small
    only causes a warning.

    With --gpu, no GPU is needed: the forecast derives from the networks' operations, the card's speed, and how fast
    this machine loads images. It lists its assumptions. --hours is the only limit that applies.

    \b
    Examples:
      cps plan
      cps plan --dataset photos/ --ratio 1/4 --memory 8GiB --shm 1GiB --disk 50GiB --hours 6
      cps plan --pod --json | jq .forecast
      cps plan --dataset cityscapes/ --ratio 1/2 --recipe cityscapes-deeplabv3p-resnet50 --gpu H100 --gpus 4
    """
    if gpu or gpus > 1:
        _on_gpus(context, gpu, gpus, hours, as_json=as_json, **options)
        return
    from pipeline.local.forecast.this_machine import exceeded, forecast, forecast_json, probe, slowdowns

    limits = _limits(memory, shm, disk, hours, pod=pod)
    planned, found = probe(local_parameters(**options).run, steps)
    expected = forecast(found, limits)
    problems = exceeded(expected, limits)
    if as_json:
        click.echo(forecast_json(planned, found, expected, limits, problems))
    else:
        click.echo("\n".join(_table(found, expected, limits)))
    for line in slowdowns(expected, limits):
        click.echo(f"cps: warning: {line}", err=True)
    if problems:
        raise WorkFailed(f"{planned.key} does not fit: {'; '.join(problems)}")


def _on_gpus(context: click.Context, gpu: str, gpus: int, hours: float, *, as_json: bool, **options: Any) -> None:
    from pipeline.local.forecast.gpu import gpu_forecast, gpu_lines, parse_card
    from pipeline.local.forecast.this_machine import probe_work

    if not gpu:
        raise UserError(f"--gpus {gpus} needs --gpu: add the card, such as --gpu H100")
    for name in ("steps", "memory", "shm", "disk", "pod"):
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            raise UserError(f"--{name} does not apply to --gpu, which forecasts the time only: leave out one of them")
    card = parse_card(gpu)
    planned, work = probe_work(local_parameters(**options).run)
    expected = gpu_forecast(work, card, gpus)
    if as_json:
        forecast = {**asdict(expected), "training_seconds": expected.training_seconds, "seconds": expected.seconds}
        told = {"run_key": planned.key, "probe": work.model_dump(mode="json"), "card": asdict(card), "gpus": gpus}
        click.echo(json.dumps({**told, "forecast": forecast}, indent=2))
    else:
        click.echo("\n".join(gpu_lines(work, card, gpus)))
    if hours and expected.seconds > 3600 * hours:
        raise WorkFailed(f"{planned.key} needs {expected.seconds / 3600:.1f} h, limit {hours:g} h")


def _size(option: str, text: str) -> int:
    size = parse_size(text)
    if not size:
        raise UserError(f"--{option} {text!r} must be a size such as 8GiB, 8Gi or 500MB")
    return size


def _limits(memory: str, shm: str, disk: str, hours: float, *, pod: bool) -> "Limits":
    from pipeline.local.forecast.this_machine import Limits

    if pod:
        from components.runs.request import Resources
        from pipeline.placement import TRAINING_HOURS

        memory, hours = memory or Resources().memory, hours or TRAINING_HOURS
        shm = shm or memory  # Kubernetes makes it as large as the pod's memory
    sizes = {"memory": memory, "shm": shm, "disk": disk}
    return Limits(**{name: _size(name, text) for name, text in sizes.items() if text}, hours=hours or None)


def _table(found: "Probes", expected: "Forecast", limits: "Limits") -> list[str]:
    from components.units import seconds_text

    training, evaluation = found.training, found.evaluation
    low, high = training.step_seconds_range
    early = ""
    if training.burn_in_steps:
        early = f"{training.burn_in_steps} steps of {training.burn_in_step_seconds:.3g} s on labelled images alone and "
    trained = (
        f"{training.epochs} epochs, {early}{expected.steps - training.burn_in_steps} steps of "
        f"{training.step_seconds:.3g} s ({low:.3g} to {high:.3g} in {training.steps_probed})"
    )
    each = f"{evaluation.image_seconds:.3g} s each"
    scored = f"{training.checkpoints} checkpoints on {evaluation.images} images, {each}"
    stored = (
        f"{training.checkpoints} checkpoints of {memory_text(training.checkpoint_bytes)}, two recovery states of "
        f"{memory_text(training.recovery_bytes)}, the dataset's {memory_text(training.dataset_bytes)}, "
        "best weights"
    )
    resident = f"training process {memory_text(training.peak_rss_bytes)}, plus decoded images"
    given = {"time": f"{limits.hours:g} h" if limits.hours else ""}
    given |= {
        name: memory_text(size) if size else ""
        for name, size in (("memory", limits.memory), ("/dev/shm", limits.shm), ("storage", limits.disk))
    }
    rows = [
        ("training", seconds_text(expected.training_seconds), "", trained),
        ("evaluation", seconds_text(expected.evaluation_seconds), "", scored),
        ("time", seconds_text(expected.seconds), given["time"], "training, then evaluation, on this machine"),
        ("memory", memory_text(expected.memory_bytes), given["memory"], resident),
        (
            "/dev/shm",
            memory_text(expected.decoded_bytes),
            given["/dev/shm"],
            "decoded training images, as far as they fit",
        ),
        ("storage", memory_text(expected.storage_bytes), given["storage"], stored),
    ]
    return [f"{'':<12}{'forecast':<14}{'limit':<12}", *(f"{a:<12}{b:<14}{c:<12}{d}" for a, b, c, d in rows)]
