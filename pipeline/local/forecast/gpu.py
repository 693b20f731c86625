"""`cps plan --gpu`: forecast a run's time on a GPU from its arithmetic and this machine's loader, without a GPU."""

import math
import re
from dataclasses import dataclass

from components.errors import UserError
from components.runs.planning.probes import WorkProbe

TRAINING_SHARE, INFERENCE_SHARE = 0.3, 0.5
"""Share of a card's peak that convolutions sustain: of the matrix units in training, of float32 in inference."""
PREDICTED = 24
"""Images that a run segments at the end, by default."""


@dataclass(frozen=True)
class Card:
    """A GPU's speeds in TFLOP/s."""

    name: str
    tf32: float
    """Peak of float32 training, in TF32 where the card has it."""
    half: float
    """Peak of bfloat16 and float16."""
    float32: float
    """Peak of exact float32, which inference uses."""
    sustained: bool = False
    """Whether the speeds are sustained and not peaks."""


CARDS = {
    card.name: card
    for card in (
        # Dense figures from NVIDIA's data sheets.
        Card("H200", 494.7, 989.4, 66.9),
        Card("H100", 494.7, 989.4, 66.9),
        Card("A100", 156, 312, 19.5),
        Card("L40S", 183, 362, 91.6),
        Card("L4", 60, 121, 30.3),
        Card("V100", 15.7, 125, 15.7),
        Card("T4", 8.1, 65, 8.1),
    )
}


@dataclass(frozen=True)
class GpuForecast:
    """Seconds on a number of cards; evaluation and prediction use one."""

    compute_seconds: float
    """Of the training's arithmetic alone."""
    loader_seconds: float
    """Of loading the training's images on this machine's cores."""
    sweep_seconds: float
    prediction_seconds: float

    @property
    def training_seconds(self) -> float:
        """Loading runs beside the arithmetic, so the slower of both decides."""
        return max(self.compute_seconds, self.loader_seconds)

    @property
    def seconds(self) -> float:
        return self.training_seconds + self.sweep_seconds + self.prediction_seconds


def parse_card(text: str) -> Card:
    """Return the card with this name, or one that sustains a number of TFLOP/s. Raises UserError."""
    if text.upper() in CARDS:
        return CARDS[text.upper()]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:tflop/?s?)?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise UserError(
            f"--gpu {text!r} is not one of {', '.join(CARDS)}: give the TFLOP/s that the card sustains, such as 40"
        )
    speed = float(match[1])
    return Card(f"{speed:g} TFLOP/s", speed, speed, speed, sustained=True)


def gpu_forecast(work: WorkProbe, card: Card, gpus: int) -> GpuForecast:
    training, inference = speeds(work, card)
    scored = work.checkpoints * work.val_images + work.test_images
    image_seconds = work.windows * work.window_flops / inference
    early, steps = work.burn_in_steps, work.steps - work.burn_in_steps
    labeled = work.model_copy(update={"has_unlabeled": False})
    return GpuForecast(
        compute_seconds=(steps * step_flops(work) + early * step_flops(labeled)) / (training * gpus),
        loader_seconds=(steps * work.images_per_step + early * work.batch_size) / work.loader_images_per_second,
        sweep_seconds=scored * image_seconds,
        prediction_seconds=PREDICTED * image_seconds,
    )


def speeds(work: WorkProbe, card: Card) -> tuple[float, float]:
    """Return the sustained FLOP/s of training and inference."""
    peak = card.tf32 if work.precision == "float32" else card.half
    shares = (1.0, 1.0) if card.sustained else (TRAINING_SHARE, INFERENCE_SHARE)
    return 1e12 * peak * shares[0], 1e12 * card.float32 * shares[1]


def step_flops(work: WorkProbe) -> int:
    """Return the floating-point operations of a training step.

    A backward pass costs two forward passes. Both networks learn from the labelled images, and from every view of the
    mixed ones; the pseudo labels of both images of each mix cost a forward pass each.
    """
    passes = 3 + (3 * work.strong_views + 2 if work.has_unlabeled else 0)
    return work.batch_size * work.crop_flops * passes


def gpu_lines(work: WorkProbe, card: Card, gpus: int) -> list[str]:
    """Return the forecast as a table, with its assumptions."""
    from components.units import seconds_text

    expected, (training, inference) = gpu_forecast(work, card, gpus), speeds(work, card)
    height, width = work.crop
    step = step_flops(work)
    cards = f"{gpus} x {card.name}" if gpus > 1 else card.name
    slower = "the loader" if expected.loader_seconds > expected.compute_seconds else "the arithmetic"
    load = work.images_per_step / work.loader_images_per_second
    steps = f"{work.steps - work.burn_in_steps} steps"
    if work.burn_in_steps:
        steps = f"{work.burn_in_steps} steps on labelled images alone and {steps}"
    units = "TF32" if work.precision == "float32" else work.precision
    rows = [
        (
            "training",
            expected.training_seconds,
            f"{work.epochs} epochs, {steps} of {step / 1e12:.3g} TFLOP; {slower} decides",
        ),
        (
            "sweep",
            expected.sweep_seconds,
            f"{work.checkpoints} checkpoints on {work.val_images} images of {work.windows:.3g} windows of "
            f"{work.window_flops / 1e9:.3g} GFLOP, both networks, one card",
        ),
        ("prediction", expected.prediction_seconds, f"{PREDICTED} images, both networks, one card"),
        ("time", expected.seconds, f"on {cards}; steps that wait for a pod or download data are not included"),
    ]
    needed = step / (training * gpus)
    shares = (
        "as given"
        if card.sustained
        else f"{TRAINING_SHARE:.0%} of the peak of {units} and {INFERENCE_SHARE:.0%} of the peak of float32"
    )
    rate, enough = work.loader_images_per_second, math.ceil(work.cores * load / needed)
    each = rate / work.cores
    keeps_up = (
        f"keeps up with a step of {needed:.3g} s"
        if load <= needed
        else f"does not keep up with a step of {needed:.3g} s: use {enough} cores for all cards together"
    )
    return [
        f"{'':<12}forecast",
        *(f"{name:<12}{seconds_text(seconds):<14}{text}" for name, seconds, text in rows),
        "",
        "Assumptions:",
        f"  speed     {training / 1e12:.3g} TFLOP/s in training and {inference / 1e12:.3g} in inference, {shares}",
        f"  a step    {needed:.3g} s of arithmetic; a backward pass costs two forward passes",
        f"  loader    {rate:.3g} images of {width} x {height} pixels a second on this machine's {work.cores} cores "
        f"({each:.3g} for each), {load:.3g} s a step; it {keeps_up}",
        "  the rest  not modelled: communication between cards, storing checkpoints, memory, and starting kernels, "
        "which dominates with small networks",
    ]
