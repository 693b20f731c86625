"""The rows of the check's table: what was measured, the limit, and whether it is met."""

import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from components.contract import Frozen
from components.units import memory_text, percent, seconds_text

FIRST_LOSS = {"float32": 1e-3, "TF32": 1e-2, "bfloat16": 5e-2}
"""Largest relative difference of the first step's loss from the CPU. TF32 keeps 10 bits of a factor, bfloat16 7."""
MOST_WAITING = 0.1
"""Largest share of a step that may be spent waiting for images."""
SHARED = 1e-6
"""Largest relative difference of a step in double precision between two devices and one."""
MOST_BYTES_BACK = 1024
"""Bytes that a step may bring back from the device: its losses."""
EQUAL_PIXELS = 0.999
"""Trained networks agree on 99.99 %; those of the check are untrained, so that more pixels are nearly ties."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    check: str
    measured: str
    limit: str = ""
    state: Literal["ok", "FAILED", "skipped"] = "ok"
    reason: str = ""
    """Why it failed or was skipped."""


class DeviceFacts(Frozen):
    """The device and the software on it."""

    model: str
    versions: str
    cards: int
    cores: int
    memory: int
    """Bytes of the device's memory."""


class FirstLoss(Frozen):
    """The loss of the first step on the CPU."""

    loss: float


class ScoredFacts(Frozen):
    """How long the device took for each image and checkpoint, in seconds."""

    seconds: float


class TrainingFacts(Frozen):
    """Some training steps in one precision. Times in seconds, sizes in bytes."""

    first_loss: float
    """Of a small batch, for the comparison with the CPU."""
    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    """Of each timed step."""
    waiting: float
    """Share of that time spent waiting for images."""
    memory: int
    """Most bytes in use."""
    back: dict[str, int]
    """Bytes that one step brings back to the host, by line."""
    up: int
    """Bytes that it takes to the device."""


class SharedFacts(Frozen):
    """A training step of two processes, compared with one that has the whole batch. Relative differences."""

    loss: float
    statistics: float
    """Of batch normalisation's running statistics, relative to the largest of each layer."""
    updates: float
    """Norm of the difference between the weight updates, relative to the norm of the updates."""


class SweepFacts(Frozen):
    """Scores of the checkpoints on the device, compared with the CPU."""

    equal: float
    """Share of the pixels that get the same class, over both networks and their ensemble."""
    worst: float
    """The smallest such share of one image."""
    counts: int
    """Sum of the differences between the confusion matrices, divided by two: pixels counted elsewhere."""
    pixels: int
    device_seconds: float
    """Time for each image and checkpoint on the device."""
    cpu_seconds: float


def device_row(facts: DeviceFacts) -> Row:
    cards = f"{facts.cards} x " if facts.cards > 1 else ""
    return Row("device", f"{cards}{facts.model}, {memory_text(facts.memory)}, {facts.cores} cores; {facts.versions}")


def training_rows(
    precision: str, facts: TrainingFacts, reference: float | None, memory: int, *, limited: bool
) -> list[Row]:
    """Return the rows of one precision.

    Args:
        reference: the first loss on the CPU, None if it is not known.
        memory: bytes of the device's memory.
        limited: whether waiting for images counts as a failure: only at the full size.
    """
    middle = sorted(facts.seconds)[len(facts.seconds) // 2]
    spread = f"{seconds_short(middle)} ({seconds_short(min(facts.seconds))} to {seconds_short(max(facts.seconds))})"
    wrong = [number for number, loss in enumerate(facts.losses, start=1) if not math.isfinite(loss)]
    finite = judged(
        f"{precision}: a step", spread, "", [] if not wrong else [f"the loss of step {wrong[0]} is not finite"]
    )
    used = Row(f"{precision}: memory", memory_text(facts.memory), memory_text(memory))
    slow = facts.waiting > MOST_WAITING and limited
    waits = judged(
        f"{precision}: waiting for images",
        f"{percent(facts.waiting)} of a step",
        percent(MOST_WAITING) if limited else "",
        ["more cores, or a dataset that fits into /dev/shm, load images faster"] if slow else [],
    )
    return [finite, used, waits, first_loss_row(precision, facts.first_loss, reference)]


def first_loss_row(precision: str, found: float, reference: float | None) -> Row:
    check = f"{precision}: first loss"
    if reference is None:
        return Row(check, f"{found:.6g}", state="skipped", reason="the CPU's is not known: see above")
    difference = abs(found - reference) / abs(reference)
    limit = FIRST_LOSS[precision]
    wrong = [] if difference <= limit else [f"{found:.6g}; on the CPU {reference:.6g}"]
    return judged(check, f"differs by {difference:.1e} from the CPU", f"{limit:g}", wrong)


def transfers_row(facts: TrainingFacts) -> Row:
    back = sum(facts.back.values())
    most = sorted(facts.back, key=lambda place: facts.back[place])[-3:]
    wrong = [] if back <= MOST_BYTES_BACK else [", ".join(f"{place} ({facts.back[place]} B)" for place in most)]
    return judged("transfers of a step", f"{back} B back, {facts.up / 1e6:.1f} MB up", f"{MOST_BYTES_BACK} B", wrong)


def shared_rows(facts: SharedFacts) -> list[Row]:
    advice = "batch normalisation or the gradients are not those of the whole batch"
    found = {"loss": facts.loss, "running statistics": facts.statistics, "updates": facts.updates}
    return [
        judged(
            f"two processes: {what}",
            f"differs by {difference:.1e} from one",
            f"{SHARED:g}",
            [] if difference <= SHARED else [advice],
        )
        for what, difference in found.items()
    ]


def sweep_row(facts: SweepFacts) -> Row:
    wrong = [] if facts.equal >= EQUAL_PIXELS else [f"the worst image agrees on {100 * facts.worst:.2f} %"]
    times = f"{seconds_short(facts.device_seconds)} an image, {seconds_short(facts.cpu_seconds)} on the CPU"
    measured = f"{100 * facts.equal:.3f} % of pixels equal; {facts.counts} of {facts.pixels} counted elsewhere; {times}"
    return judged("sweep of two checkpoints", measured, f"{100 * EQUAL_PIXELS:.1f} %", wrong)


def judged(check: str, measured: str, limit: str, wrong: list[str]) -> Row:
    return Row(check, measured, limit, "FAILED" if wrong else "ok", "; ".join(wrong))


def verdict(rows: Iterable[Row]) -> str:
    """Return one line that names every check that failed, or "" if none did."""
    return "; ".join(
        f"{row.check}: {', '.join(filter(None, (row.measured, row.reason)))}" for row in rows if row.state == "FAILED"
    )


def table_lines(row: Row, width: int = 110) -> list[str]:
    """Return the row as lines of the table; a reason follows below."""
    columns = f"{row.check:<30}{row.state:<9}{row.limit:<12}"
    lines = textwrap.wrap("; ".join(filter(None, (row.measured, row.reason))), max(40, width - len(columns)))
    return [columns + lines[0], *(" " * len(columns) + line for line in lines[1:])] if lines else [columns.rstrip()]


HEADER = f"{'check':<30}{'result':<9}{'limit':<12}measured"


def seconds_short(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else seconds_text(seconds)
