"""The two networks of Cross Pseudo Supervision: their branches, threads and forward passes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

import paddle
from paddle import nn

from components.errors import UserError
from components.networks.device import on_gpu
from components.networks.layers import drop_channels, frozen_statistics, own_dropouts
from components.networks.paddleseg_models import Foreign
from components.networks.structures import build
from components.recipes import Recipe
from components.training.batches.on_device import DeviceBatch
from components.training.batches.randomness import Stream, generator, number
from components.training.branch import Branch
from components.training.precision import LossScale, Precision, autocast

Result = TypeVar("Result")
Forward = Callable[[str], paddle.Tensor]
"""Maps the name of a batch's images (labeled, first, second or mixed) to logits, (B, C, H, W) float32.

With `cps.feature_dropout`, DROPPED after `mixed` decodes the features of the first views again, with dropped channels.
"""
DROPPED = "dropped"
UNMIXED, LEARNED = ("first", "second"), ("mixed", "labeled")
"""The images that get pseudo labels, and those that networks learn from."""
Encode = Callable[[str], list[paddle.Tensor]]
"""Maps the name of a batch's images to the feature maps of a network's encoder."""
Drop = Callable[[list[paddle.Tensor]], list[paddle.Tensor]]


class Pair:
    """Two networks with different initial weights; the same architecture unless the recipe names a second one.

    With `threads` each network runs in its own thread, which uses CPU cores better than parallel operations do.
    The result is bit-identical: neither network writes what the other reads, and each has its own dropout generator.
    Networks from paddleseg may use other sources of randomness, so they share one thread.
    """

    def __init__(self, recipe: Recipe, num_classes: int, seed: int, *, threads: bool) -> None:
        self.recipe, self._seed = recipe, seed
        streams = {"left": Stream.LEFT_NETWORK, "right": Stream.RIGHT_NETWORK}
        networks = {
            name: build(structure, num_classes, number(seed, streams[name]))
            for name, structure in recipe.network.structures.items()
        }
        self.networks = networks
        self.shares_stem = recipe.network.freeze_stem
        if self.shares_stem:
            _freeze_stems(networks, recipe.network.structure)
        # A GPU generates its own dropout masks faster.
        own = not on_gpu()
        self._dropouts = {name: own_dropouts(network) if own else [] for name, network in networks.items()}
        layers = [layer for network in networks.values() for layer in network.sublayers(include_self=True)]
        self.draws_from_paddle = any(map(_draws_from_paddle, layers))
        # Paddle does not document auto_cast as thread-local, and threads do not speed up a GPU.
        threads = threads and not self.draws_from_paddle and recipe.training.precision == "float32"
        self._pool = ThreadPoolExecutor(2, "network") if threads else None
        self.branches: dict[str, Branch] = {}

    def start(self) -> None:
        """Create the branches. Load pretrained weights first: averaged weights start from the current ones."""
        scaled, evaluated = self.recipe.training.precision == "float16", self.recipe.cps.teacher == "average_eval"
        self.branches = {
            name: Branch(
                name,
                network,
                self.recipe.optimization,
                LossScale() if scaled else None,
                averages_statistics=evaluated,
            )
            for name, network in self.networks.items()
        }
        self._train()

    def seed(self, seed: int, *position: int) -> None:
        """Seed dropout for `position`: the step and the process's rank."""
        if self.draws_from_paddle:
            paddle.seed(number(seed, Stream.STEP, *position))
        for branch, layers in enumerate(self._dropouts.values()):
            for index, layer in enumerate(layers):
                layer.generator = generator(seed, Stream.STEP, *position, branch, index)

    @contextmanager
    def evaluated(self) -> Iterator[list[nn.Layer]]:
        """Yield both networks in evaluation mode, with the weights that a checkpoint would hold."""
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

    def forwards(self, batch: DeviceBatch, parts: Sequence[str] = (*UNMIXED, *LEARNED)) -> dict[str, Forward]:
        """Return each network's forward pass over `parts` of the batch's images; see Forward."""
        images = {part: getattr(batch, part) for part in parts}
        images = {part: tensor for part, tensor in images.items() if tensor is not None}
        if self.shares_stem:
            forwards = self._forwards_after_stem(images, batch)
        else:
            forwards = {
                name: self._forward(name, batch, partial(_whole, network, images), partial(_encoded, network, images))
                for name, network in self.networks.items()
            }
        precision = self.recipe.training.precision
        if precision == "float32":
            return forwards
        return {name: partial(_in_precision, forward, precision) for name, forward in forwards.items()}

    def _forward(self, name: str, batch: DeviceBatch, whole: Forward, encode: Encode) -> Forward:
        """Return a network's forward pass: `whole`, or one that can drop the features that `encode` returns."""
        share = self.recipe.cps.feature_dropout
        if share == 0 or batch.mixed is None:
            return whole
        branch = list(self.networks).index(name)
        generators = [generator(self._seed, Stream.FEATURE_DROPOUT, position, branch) for position in batch.positions]
        drop = partial(drop_channels, share=share, generators=generators)
        return DroppingForward(self.networks[name], encode, drop, batch)

    def _forwards_after_stem(self, images: dict[str, paddle.Tensor], batch: DeviceBatch) -> dict[str, Forward]:
        """Return the forward passes. The frozen stems are identical, so each runs on only half of the images."""
        size = next(iter(images.values())).shape[2:]
        parts = {"left": list(images)[::2], "right": list(images)[1::2]}

        def run_stem(name: str) -> dict[str, list[paddle.Tensor]]:
            with paddle.no_grad():
                stem = self.networks[name].stem
                return {part: stem(images[part]) for part in parts[name]}

        halves = self.run_both(run_stem)
        features = {**halves["left"], **halves["right"]}
        return {
            name: self._forward(
                name,
                batch,
                partial(_after_stem, network, features, size),
                partial(_encoded_after_stem, network, features),
            )
            for name, network in self.networks.items()
        }

    def run_both(self, work: Callable[[str], Result]) -> dict[str, Result]:
        """Call `work("left")` and `work("right")`, in parallel if threads are enabled; return both results by name."""
        if self._pool is None:
            return {name: work(name) for name in self.networks}
        futures = {name: self._pool.submit(work, name) for name in self.networks}
        return {name: future.result() for name, future in futures.items()}


def _whole(network: nn.Layer, tensors: dict[str, paddle.Tensor], part: str) -> paddle.Tensor:
    return network(tensors[part])


def _after_stem(
    network: nn.Layer, features: dict[str, list[paddle.Tensor]], size: tuple[int, int], part: str
) -> paddle.Tensor:
    return network.decode(network.after_stem(features[part]), size)


def _encoded(network: nn.Layer, tensors: dict[str, paddle.Tensor], part: str) -> list[paddle.Tensor]:
    features: list[paddle.Tensor] = network.encode(tensors[part])
    return features


def _encoded_after_stem(network: nn.Layer, features: dict[str, list[paddle.Tensor]], part: str) -> list[paddle.Tensor]:
    encoded: list[paddle.Tensor] = network.after_stem(features[part])
    return encoded


class DroppingForward:
    """A forward pass that can decode the features of the mixed images twice: as they are, and with dropped channels.

    The encoder runs once for both. DROPPED uses the first view of each image, and does not update running statistics,
    because evaluation never drops features.
    """

    def __init__(self, network: nn.Layer, encode: Encode, drop: Drop, batch: DeviceBatch) -> None:
        self._network, self._encode, self._drop, self._views = network, encode, drop, batch.views
        self._size = tuple(batch.labeled.shape[2:])
        self._mixed: list[paddle.Tensor] = []

    def __call__(self, part: str) -> paddle.Tensor:
        if part == DROPPED:
            features, self._mixed = [feature[:: self._views] for feature in self._mixed], []
            with frozen_statistics(self._network):
                return self._network.decode(self._drop(features), self._size)
        features = self._encode(part)
        if part == "mixed":
            self._mixed = features
        return self._network.decode(features, self._size)


def _in_precision(forward: Forward, precision: Precision, part: str) -> paddle.Tensor:
    """Compute in `precision`; return float32 logits."""
    with autocast(precision):
        return forward(part).astype("float32")


def _freeze_stems(networks: dict[str, nn.Layer], structure: str) -> None:
    for network in networks.values():
        if not hasattr(network, "stem_layers"):
            raise UserError(f"structure {structure!r} has no stem to freeze; set network.freeze_stem=false")
        for layer in network.stem_layers():
            for parameter in layer.parameters():
                parameter.stop_gradient = True


def _draws_from_paddle(layer: nn.Layer) -> bool:
    # Networks from paddleseg also use functional dropout, and their own dropout layers.
    return isinstance(layer, Foreign) or (isinstance(layer, nn.Dropout | nn.Dropout2D) and layer.p > 0)
