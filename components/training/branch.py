"""One branch of the pair: a network, its optimizer and averaged weights, and its state by structured names."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from components.networks.layers import BATCH_NORMALISATION
from components.networks.weights import load_state, state_arrays
from components.recipes.model import Optimization
from components.training.precision import LossScale

Arrays = dict[str, NDArray[Any]]

STATISTICS = ("._mean", "._variance")
"""Name endings of batch normalisation's running statistics, the only state that differs between processes."""
NORMALISATION = (*BATCH_NORMALISATION, nn.LayerNorm, nn.GroupNorm)


class Branch:
    """A network and its training state. Frozen parameters are in neither the optimizer nor the average.

    `name` is left or right; `scale` is the loss scale for float16, None for other precisions. The average holds the
    running statistics of batch normalisation too if `averages_statistics`; otherwise the current ones stand for them.
    """

    def __init__(
        self,
        name: str,
        network: nn.Layer,
        settings: Optimization,
        scale: LossScale | None = None,
        *,
        averages_statistics: bool = False,
    ) -> None:
        self.name = name
        self.network = network
        self.ema_decay = settings.ema
        self.clip_norm = settings.clip_norm
        self.scale = scale
        self.trained = {
            name: parameter for name, parameter in network.named_parameters() if not parameter.stop_gradient
        }
        self.optimizer = _optimizer(network, self.trained, settings)
        self.average = self._new_average(averages_statistics) if settings.ema > 0 else None

    def backward(self, loss: paddle.Tensor) -> None:
        """Accumulate the gradients of the loss."""
        (loss if self.scale is None else loss * self.scale.value).backward()

    def step(self, learning_rate: float, number: int) -> None:
        """Apply and clear the accumulated gradients, then update the averaged weights.

        With float16, gradients that overflow are dropped and the weights stay as they are.
        """
        gradients = [parameter.grad for parameter in self.trained.values() if parameter.grad is not None]
        if self.scale is not None and not self.scale.unscale(gradients):
            self.optimizer.clear_grad()
            return
        if self.clip_norm > 0:
            clip_by_global_norm(gradients, self.clip_norm)
        self.optimizer.set_lr(learning_rate)
        self.optimizer.step()
        self.optimizer.clear_grad()
        if self.average is not None:
            # Use a smaller decay at first; otherwise the random initial weights would dominate the average for long.
            decay = min(self.ema_decay, (1 + number) / (10 + number))
            self._update_average(decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Swap in the averaged weights, if there are any, and restore the current weights on exit."""
        current = self.network.state_dict()
        saved = {name: current[name].detach().clone() for name in self.average or {}}
        _copy(self.average or {}, current)
        try:
            yield
        finally:
            _copy(saved, current)

    def weights(self) -> Arrays:
        """Return the weights for a checkpoint: the averaged ones if there are any, otherwise the current ones."""
        arrays = state_arrays(self.network)
        if self.average is not None:
            arrays.update({name: tensor.numpy() for name, tensor in self.average.items()})
        return arrays

    def state(self) -> Arrays:
        """Return everything that the next step depends on, under names that do not change between processes."""
        arrays = {f"network.{name}": array for name, array in state_arrays(self.network).items()}
        for name, tensor in (self.average or {}).items():
            arrays[f"average.{name}"] = tensor.numpy()
        structured = self._structured_names()
        for key, tensor in self.optimizer.state_dict().items():
            match = OPTIMIZER_KEY.fullmatch(key)
            if match and match["parameter"] in structured:
                arrays[f"optimizer.{structured[match['parameter']]}.{match['slot']}"] = np.asarray(tensor.numpy())
        if self.scale is not None:
            arrays.update({f"scale.{name}": array for name, array in self.scale.state().items()})
        return arrays

    def load_state(self, arrays: Arrays, origin: str) -> None:
        """Restore what `state` returned; errors name `origin`."""
        load_state(self.network, arrays, "network.", origin=origin)
        for name, tensor in (self.average or {}).items():
            tensor.set_value(arrays[f"average.{name}"])
        names = {structured: paddles for paddles, structured in self._structured_names().items()}
        state = {}
        for key, array in arrays.items():
            if key.startswith("optimizer."):
                name, slot = key.removeprefix("optimizer.").rsplit(".", 1)
                state[f"{names[name]}_{slot}"] = paddle.to_tensor(array)
        self.optimizer.set_state_dict(state)
        if self.scale is not None:
            self.scale.load_state({name: arrays[f"scale.{name}"] for name in self.scale.state()})

    def _structured_names(self) -> dict[str, str]:
        """Map Paddle's parameter names, which number all layers of a process, to names by position in the network."""
        return {parameter.name: name for name, parameter in self.trained.items()}

    def _new_average(self, averages_statistics: bool) -> dict[str, paddle.Tensor]:
        frozen = {name for name, parameter in self.network.named_parameters() if parameter.stop_gradient}
        if averages_statistics:
            # Paddle counts running statistics among the parameters, without a gradient.
            frozen -= {name for name in frozen if name.endswith(STATISTICS) and _weight_beside(name) not in frozen}
        return {
            name: tensor.detach().clone()
            for name, tensor in self.network.state_dict().items()
            if name not in frozen and tensor.dtype == paddle.float32
        }

    def _update_average(self, decay: float) -> None:
        current = self.network.state_dict()
        with paddle.no_grad():
            for name, tensor in (self.average or {}).items():
                tensor.scale_(decay).add_(current[name] * (1 - decay))


def clip_by_global_norm(gradients: Iterable[paddle.Tensor], limit: float) -> None:
    """Scale the gradients in place so that their global norm is at most `limit`.

    Paddle's own clipping would treat the optimizer's groups with and without weight decay separately.
    """
    gradients = list(gradients)
    with paddle.no_grad():
        norm = paddle.add_n([gradient.square().sum() for gradient in gradients]).sqrt()
        factor = limit / norm.clip(min=limit)
        for gradient in gradients:
            gradient.scale_(factor)


def _copy(source: dict[str, paddle.Tensor], target: dict[str, paddle.Tensor]) -> None:
    with paddle.no_grad():
        for name, tensor in source.items():
            target[name].set_value(tensor)


def _weight_beside(statistic: str) -> str:
    """Return the name of the weight in the layer that has a running statistic."""
    return statistic.rpartition(".")[0] + ".weight"


OPTIMIZER_KEY = re.compile(r"(?P<parameter>.+?)_(?P<slot>velocity_0|moment[12]_0|beta[12]_pow_acc_0)")


def _optimizer(
    network: nn.Layer, trained: dict[str, paddle.Tensor], settings: Optimization
) -> paddle.optimizer.Optimizer:
    undecayed = _undecayed(network)
    parameters = list(trained.values())
    if settings.optimizer == "adamw":
        decayed = {parameter.name for name, parameter in trained.items() if name not in undecayed}
        return paddle.optimizer.AdamW(
            learning_rate=settings.learning_rate,
            parameters=parameters,
            weight_decay=settings.weight_decay,
            apply_decay_param_fun=lambda name: name in decayed,
        )
    groups = [
        {
            "params": [trained[name] for name in trained if name not in undecayed],
            "weight_decay": settings.weight_decay,
        },
        {"params": [trained[name] for name in trained if name in undecayed], "weight_decay": 0.0},
    ]
    return paddle.optimizer.Momentum(
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        parameters=[group for group in groups if group["params"]],
    )


def _undecayed(network: nn.Layer) -> set[str]:
    """Return the parameters without weight decay: biases, and everything in normalisation layers."""
    names = {name for name, _ in network.named_parameters() if name.endswith("bias")}
    for prefix, layer in network.named_sublayers():
        if isinstance(layer, NORMALISATION):
            names |= {f"{prefix}.{name}" for name, _ in layer.named_parameters()}
    return names
