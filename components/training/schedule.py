"""How long a training is, when it saves, and how learning rate and CPS weight change: functions of the step alone."""

import math
from dataclasses import dataclass
from fractions import Fraction

from components.errors import UserError
from components.recipes import Recipe


@dataclass(frozen=True)
class Plan:
    """Steps are counted from 0, epochs from 1."""

    epochs: int
    steps_per_epoch: int
    checkpoint_epochs: tuple[int, ...]

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def epoch_ended(self, step: int) -> int | None:
        """The epoch that ends with this step, or None."""
        epoch, left = divmod(step + 1, self.steps_per_epoch)
        return epoch if left == 0 else None


def plan(recipe: Recipe, *, labeled: int, unlabeled: int, ratio: str) -> Plan:
    """An epoch is one pass over the longer list.

    The baseline with weight 0 reads no unlabelled image, and yet is planned with them: it makes as many steps as the
    training it is compared with.
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
        raise UserError(f"recipe {recipe.name!r} says no number of epochs; set training.epochs")
    if ratio in table:
        return table[ratio]
    wanted = Fraction(ratio)
    near = min(table, key=lambda known: abs(Fraction(known) - wanted))
    share = max(Fraction(near), 1 - Fraction(near))
    near_steps = table[near] * max(1, int(longer_total * share) // recipe.training.batch_size)
    return max(1, round(near_steps / steps_per_epoch))


def _checkpoint_epochs(recipe: Recipe, epochs: int) -> tuple[int, ...]:
    # A training that stops early may do so anywhere, and should have checkpoints then.
    span = 1.0 if recipe.training.patience else recipe.training.checkpoint_span
    first = max(1, math.ceil(epochs * (1 - span) + 1e-9))
    count = min(recipe.training.checkpoints, epochs - first + 1)
    if count == 1:
        return (epochs,)
    spacing = (epochs - first) / (count - 1)
    return tuple(sorted({round(first + spacing * number) for number in range(count)}))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Poly decay per step, scaled with the total batch."""
    settings = recipe.optimization
    scaled = settings.learning_rate * recipe.training.batch_size / settings.reference_batch
    return float(scaled * (1 - step / steps) ** settings.poly_power)


def cps_weight(recipe: Recipe, step: int, steps: int) -> float:
    """The weight of the cross pseudo losses: constant, or rising as exp(-5 (1 - t)^2) first."""
    ramp = recipe.cps.ramp_up * steps
    if step >= ramp:
        return recipe.cps.weight
    return float(recipe.cps.weight * math.exp(-5 * (1 - step / ramp) ** 2))
