"""Training schedule: length, checkpoints, learning rate and CPS weight, all functions of the step alone."""

import math
from dataclasses import dataclass
from fractions import Fraction

from components.errors import UserError
from components.recipes import Recipe

BURN_IN_COST = 0.45
"""Time of a burn-in step relative to a full step: 0.44 with the network of photos and 0.52 with demo, on two cores."""


@dataclass(frozen=True)
class Plan:
    """Length of a training and epochs to save. Steps count from 0, epochs from 1."""

    epochs: int
    steps_per_epoch: int
    checkpoint_epochs: tuple[int, ...]

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def epoch_ended(self, step: int) -> int | None:
        """Return the epoch that ends with this step, or None."""
        epoch, remainder = divmod(step + 1, self.steps_per_epoch)
        return epoch if remainder == 0 else None


def plan(recipe: Recipe, *, labeled: int, unlabeled: int, ratio: str) -> Plan:
    """Plan a training. An epoch is one pass over the longer of the labelled and unlabelled lists.

    The supervised baseline (weight 0) reads no unlabelled images, but counts them here, so that it trains for as many
    steps as the CPS run it is compared with.
    """
    batch = recipe.training.batch_size
    longer = max(labeled, unlabeled)
    steps_per_epoch = max(1, longer // batch)
    epochs = recipe.training.epochs or _epochs_for_ratio(
        recipe, ratio, steps_per_epoch, longer_total=labeled + unlabeled
    )
    return Plan(epochs, steps_per_epoch, _checkpoint_epochs(recipe, epochs))


def _epochs_for_ratio(recipe: Recipe, ratio: str, steps_per_epoch: int, *, longer_total: int) -> int:
    table = recipe.training.epochs_by_ratio
    if not table:
        raise UserError(f"recipe {recipe.name!r} sets no number of epochs: set training.epochs")
    if ratio in table:
        return table[ratio]
    # As many steps as at the nearest ratio in the table.
    wanted = Fraction(ratio)
    nearest = min(table, key=lambda known: abs(Fraction(known) - wanted))
    share = max(Fraction(nearest), 1 - Fraction(nearest))
    steps = table[nearest] * max(1, int(longer_total * share) // recipe.training.batch_size)
    return max(1, round(steps / steps_per_epoch))


def _checkpoint_epochs(recipe: Recipe, epochs: int) -> tuple[int, ...]:
    # With early stopping, training may end at any epoch and should have checkpoints by then.
    span = 1.0 if recipe.training.patience else recipe.training.checkpoint_span
    first = max(1, math.ceil(epochs * (1 - span) + 1e-9))
    count = min(recipe.training.checkpoints, epochs - first + 1)
    if count == 1:
        return (epochs,)
    spacing = (epochs - first) / (count - 1)
    return tuple(sorted({round(first + spacing * number) for number in range(count)}))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of a step: polynomial decay, scaled linearly with the total batch size."""
    settings = recipe.optimization
    scaled = settings.learning_rate * recipe.training.batch_size / settings.reference_batch
    return float(scaled * (1 - step / steps) ** settings.poly_power)


def burn_in_steps(recipe: Recipe, steps: int) -> int:
    """Return how many steps, at the beginning, train on labelled images alone."""
    return round(recipe.cps.burn_in * steps)


def work(recipe: Recipe, done: int, steps: int) -> float:
    """Return the cost of the first `done` of `steps` steps, in full steps: a step of the burn-in costs BURN_IN_COST.

    This makes the progress of a training proportional to time. A supervised baseline's steps are all alike.
    """
    early = min(done, burn_in_steps(recipe, steps)) if recipe.cps.weight else 0
    return done - (1 - BURN_IN_COST) * early


def cps_weight(recipe: Recipe, step: int, steps: int) -> float:
    """Return the weight of the cross losses: 0 in the burn-in, then constant after a ramp-up exp(-5 (1 - t)^2)."""
    since, ramp = step - burn_in_steps(recipe, steps), recipe.cps.ramp_up * steps
    if since < 0:
        return 0.0
    if since >= ramp:
        return recipe.cps.weight
    return float(recipe.cps.weight * math.exp(-5 * (1 - since / ramp) ** 2))
