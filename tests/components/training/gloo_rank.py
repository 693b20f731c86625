"""One rank of test_group.py, started by paddle.distributed.launch: `gloo_rank.py FOLDER` leaves what it computed."""

import json
import sys
from pathlib import Path

import numpy as np
import paddle

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
from small_training import CLASSES, make_batch, make_pair, make_recipe, slots  # noqa: E402

from components.training.cps import Batch  # noqa: E402
from components.training.group import Group  # noqa: E402
from components.training.losses import Criterion  # noqa: E402


def gradients(batch: Batch, criterion: Criterion, synchronise) -> tuple[dict, list[float]]:
    """Of both networks after one step from the same weights; and the step's three losses."""
    pair = make_pair(make_recipe(optimization__ema=0.0))
    for network in pair.networks.values():
        network.eval()  # batch statistics would differ between shares: only with them frozen can it be exact
    found = {}

    def note(branch) -> None:
        synchronise(branch)
        for name, parameter in branch.trained.items():
            found[f"{branch.name}.{name}"] = parameter.grad.numpy()

    losses = pair.step(batch, criterion, weight=1.5, learning_rate=0.01, number=0, synchronise=note)
    return found, [losses.total, losses.supervised, losses.cross]


def main() -> None:
    folder, group = Path(sys.argv[1]), Group()
    whole = make_batch(0, size=4)
    whole.labels[0, :24] = 255  # the ranks' shares have different numbers of valid pixels, in labels and pseudo labels
    whole.void[3, 5:] = True
    weights = paddle.to_tensor(np.linspace(0.5, 2, CLASSES).astype(np.float32))
    loss = make_recipe(loss__kind="ohem").loss
    # More pixels than there are: OHEM keeps every valid one.
    mine = Criterion(loss, 255, min_kept=10**6, class_weights=weights, total=group.mean)
    alone = Criterion(loss, 255, min_kept=10**6, class_weights=weights)
    shared, losses = gradients(slots(whole, group.share.slots(4)), mine, group.average_gradients)
    expected, whole_losses = gradients(whole, alone, lambda _branch: None)
    np.savez(folder / f"shared.{group.rank}.npz", **shared)
    np.savez(folder / f"whole.{group.rank}.npz", **expected)
    own = {"a": np.full((2, 3), group.rank, np.float32), "b": np.arange(2, dtype=np.float32) + 10 * group.rank}
    gathered = [{name: array.tolist() for name, array in part.items()} for part in group.gather(own)]
    said = {
        "losses": losses,
        "means": group.means(losses),
        "whole": whole_losses,
        "gathered": gathered,
        "valid": [int((whole.labels[group.share.slots(4)] != 255).sum()), int((~whole.void).sum())],
    }
    (folder / f"said.{group.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
