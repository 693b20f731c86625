"""The two networks and one step of both: pseudo labels, losses, gradients, weights."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import paddle
from paddle import nn

from components.errors import UserError
from components.networks.layers import own_dropouts
from components.networks.paddleseg_models import Foreign
from components.networks.structures import build
from components.recipes import Recipe
from components.training.batches.randomness import Stream, generator, number
from components.training.branch import Branch
from components.training.cps import Batch, BranchLosses, Forward, branch_losses, mean_counts, pseudo_labels
from components.training.losses import Criterion
from components.training.precision import LossScale, Precision, autocast

Result = TypeVar("Result")


@dataclass(frozen=True)
class StepLosses:
    """Of both networks together, as in the paper: supervised + weight * cross."""

    total: float
    supervised: float
    cross: float


class Pair:
    """Two networks of different initialisation, and of one structure unless the recipe says otherwise.

    With `threads` each network computes in a thread of its own, which on a CPU uses the cores better than threads
    inside its operations do. The result is the same to the bit, since neither side sums into what the other reads, and
    dropout draws from a generator for each network. paddleseg's networks may draw in other ways, and so run in one
    thread.
    """

    def __init__(self, recipe: Recipe, num_classes: int, seed: int, *, threads: bool) -> None:
        self.recipe = recipe
        streams = {"left": Stream.LEFT_NETWORK, "right": Stream.RIGHT_NETWORK}
        networks = {
            name: build(structure, num_classes, number(seed, streams[name]))
            for name, structure in recipe.network.structures.items()
        }
        self.networks = networks
        self.shares_stem = recipe.network.freeze_stem
        if self.shares_stem:
            _freeze_stems(networks, recipe.network.structure)
        # A GPU draws faster by itself.
        own = not paddle.is_compiled_with_cuda()
        self._dropouts = {name: own_dropouts(network) if own else [] for name, network in networks.items()}
        layers = [layer for network in networks.values() for layer in network.sublayers(include_self=True)]
        self.draws_from_paddle = any(map(_draws_from_paddle, layers))
        # Nothing says that Paddle's casts are a thread's own, and a GPU gains nothing by threads.
        threads = threads and not self.draws_from_paddle and recipe.training.precision == "float32"
        self._pool = ThreadPoolExecutor(2, "network") if threads else None
        self.branches: dict[str, Branch] = {}

    def start(self) -> None:
        """Make the optimizers: after pretrained weights are in, since averages begin with what is there."""
        scaled = self.recipe.training.precision == "float16"
        self.branches = {
            name: Branch(name, network, self.recipe.optimization, LossScale() if scaled else None)
            for name, network in self.networks.items()
        }
        self._train()

    def seed(self, seed: int, *where: int) -> None:
        """Have the networks draw what belongs to `where`: the step, and the process's rank."""
        if self.draws_from_paddle:
            paddle.seed(number(seed, Stream.STEP, *where))
        for side, layers in enumerate(self._dropouts.values()):
            for place, layer in enumerate(layers):
                layer.generator = generator(seed, Stream.STEP, *where, side, place)

    @contextmanager
    def evaluated(self) -> Iterator[list[nn.Layer]]:
        """Within, both networks as a checkpoint would hold them, in evaluation mode."""
        with ExitStack() as stack:
            for branch in self.branches.values():
                stack.enter_context(branch.averaged())
                branch.network.eval()
            try:
                yield list(self.networks.values())
            finally:
                self._train()

    def _train(self) -> None:
        for network in self.networks.values():
            network.train()
            if self.shares_stem:
                for layer in network.stem_layers():
                    layer.eval()

    def step(
        self,
        batch: Batch,
        criterion: Criterion,
        *,
        weight: float,
        learning_rate: float,
        number: int,
        synchronise: Callable[[Branch], None] | None = None,
        watch: Callable[[list[dict[str, paddle.Tensor]]], None] | None = None,
    ) -> StepLosses:
        """One training step. `synchronise` averages a branch's gradients over processes before they are used.

        `watch` is shown the pseudo labels of each micro-batch, (B, H, W) by network, and changes nothing.

        With `training.accumulate` the batch goes through in micro-batches, whose gradients add up to the whole
        batch's. Batch normalisation uses and remembers each micro-batch's own statistics.
        """
        parts = batch.micro_batches(self.recipe.training.accumulate)
        forwards = [self._forwards(part) for part in parts]
        pseudo = [self._pseudo_labels(forward, part, criterion) for forward, part in zip(forwards, parts, strict=True)]
        labels = [paddle.to_tensor(part.labels) for part in parts]
        if watch is not None:
            watch(pseudo)

        def descend(name: str) -> list[BranchLosses]:
            side, other = self.branches[name], "right" if name == "left" else "left"
            others = [made[other] for made in pseudo if made]
            counts = mean_counts(criterion, labels, others)
            found = []
            for place, forward in enumerate(forwards):
                taught = others[place] if others else None
                losses = branch_losses(forward[name], criterion, labels[place], taught, weight, counts)
                side.backward(losses.total / len(parts) if len(parts) > 1 else losses.total)
                found.append(losses.detached())
            if synchronise is None:
                side.step(learning_rate, number)
            return found

        sides = self._both(descend)
        if synchronise is not None:
            # Collectives must be entered in the same order everywhere: one network after the other.
            for branch in self.branches.values():
                synchronise(branch)
                branch.step(learning_rate, number)
        return _summed([losses for side in sides.values() for losses in side], len(parts))

    def _pseudo_labels(
        self, forwards: dict[str, Forward], batch: Batch, criterion: Criterion
    ) -> dict[str, paddle.Tensor]:
        if batch.mixed is None:
            return {}
        settings = self.recipe.cps

        def label(name: str) -> paddle.Tensor:
            with self.branches[name].averaged() if settings.teacher == "average" else nullcontext():
                return pseudo_labels(
                    forwards[name],
                    self.networks[name],
                    batch,
                    confidence=settings.confidence,
                    ignore_index=criterion.ignore_index,
                )

        return self._both(label)

    def _forwards(self, batch: Batch) -> dict[str, Forward]:
        """For each network, the function from a part's name to its logits."""
        images = {part: getattr(batch, part) for part in ("labeled", "first", "second", "mixed")}
        images = {part: array for part, array in images.items() if array is not None}
        if self.shares_stem:
            forwards = self._forwards_after_stem(images)
        else:
            tensors = {part: paddle.to_tensor(array) for part, array in images.items()}
            forwards = {name: partial(_whole, network, tensors) for name, network in self.networks.items()}
        precision = self.recipe.training.precision
        if precision == "float32":
            return forwards
        return {name: partial(_in_precision, forward, precision) for name, forward in forwards.items()}

    def _forwards_after_stem(self, images: dict[str, paddle.Tensor]) -> dict[str, Forward]:
        """Both stems are the same and frozen: each computes half of the parts, and both use all of them."""
        size = next(iter(images.values())).shape[2:]
        parts = {"left": ("first", "second"), "right": ("mixed", "labeled")}

        def run_stem(name: str) -> dict[str, list[paddle.Tensor]]:
            with paddle.no_grad():
                stem = self.networks[name].stem
                return {part: stem(paddle.to_tensor(images[part])) for part in parts[name] if part in images}

        halves = self._both(run_stem)
        features = {**halves["left"], **halves["right"]}
        return {name: partial(_after_stem, network, features, size) for name, network in self.networks.items()}

    def _both(self, work: Callable[[str], Result]) -> dict[str, Result]:
        if self._pool is None:
            return {name: work(name) for name in self.networks}
        futures = {name: self._pool.submit(work, name) for name in self.networks}
        return {name: future.result() for name, future in futures.items()}


def _whole(network: nn.Layer, tensors: dict[str, paddle.Tensor], part: str) -> paddle.Tensor:
    return network(tensors[part])


def _after_stem(
    network: nn.Layer, features: dict[str, list[paddle.Tensor]], size: tuple[int, int], part: str
) -> paddle.Tensor:
    return network.after_stem(features[part], size)


def _in_precision(forward: Forward, precision: Precision, part: str) -> paddle.Tensor:
    """Logits in float32, computed in `precision`."""
    with autocast(precision):
        return forward(part).astype("float32")


def _summed(losses: list[BranchLosses], parts: int) -> StepLosses:
    """Over both networks; the mean over `parts` micro-batches."""
    return StepLosses(
        total=sum(float(one.total) for one in losses) / parts,
        supervised=sum(float(one.supervised) for one in losses) / parts,
        cross=sum(float(one.cross) for one in losses if one.cross is not None) / parts,
    )


def _freeze_stems(networks: dict[str, nn.Layer], structure: str) -> None:
    for network in networks.values():
        if not hasattr(network, "stem_layers"):
            raise UserError(f"structure {structure!r} has no stem to freeze; set network.freeze_stem=false")
        for layer in network.stem_layers():
            for parameter in layer.parameters():
                parameter.stop_gradient = True


def _draws_from_paddle(layer: nn.Layer) -> bool:
    # paddleseg's networks also drop by functions and by layers of their own.
    return isinstance(layer, Foreign) or (isinstance(layer, nn.Dropout | nn.Dropout2D) and layer.p > 0)
