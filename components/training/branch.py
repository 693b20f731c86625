"""One of the two networks with what trains it: optimizer, averaged weights, and its state by structured names."""

import re
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn

from components.networks.weights import load_state, state_arrays
from components.recipes.model import Optimization

Arrays = dict[str, NDArray[Any]]

NORMALISATION = (nn.layer.norm._BatchNormBase, nn.LayerNorm, nn.GroupNorm)


class Branch:
    """`name` is left or right. Frozen parameters are left out of the optimizer and of the average."""

    def __init__(self, name: str, network: nn.Layer, settings: Optimization) -> None:
        self.name = name
        self.network = network
        self.ema_decay = settings.ema
        self.trained = {
            name: parameter for name, parameter in network.named_parameters() if not parameter.stop_gradient
        }
        self.optimizer = _optimizer(network, self.trained, settings)
        self.average = self._new_average() if settings.ema > 0 else None

    def step(self, learning_rate: float, number: int) -> None:
        """Descend the gradients that are there, then take the new weights into the average."""
        self.optimizer.set_lr(learning_rate)
        self.optimizer.step()
        self.optimizer.clear_grad()
        if self.average is not None:
            # A young average follows quickly, or it would remember the random initialisation for long.
            decay = min(self.ema_decay, (1 + number) / (10 + number))
            self._update_average(decay)

    def weights(self) -> Arrays:
        """What a checkpoint holds: the averaged weights where there is an average, else the current ones."""
        arrays = state_arrays(self.network)
        if self.average is not None:
            arrays.update({name: tensor.numpy() for name, tensor in self.average.items()})
        return arrays

    def state(self) -> Arrays:
        """Everything that the next step depends on, by names that a rebuilt network has too."""
        arrays = {f"network.{name}": array for name, array in state_arrays(self.network).items()}
        for name, tensor in (self.average or {}).items():
            arrays[f"average.{name}"] = tensor.numpy()
        structured = self._structured_names()
        for key, tensor in self.optimizer.state_dict().items():
            match = OPTIMIZER_KEY.fullmatch(key)
            if match and match["parameter"] in structured:
                arrays[f"optimizer.{structured[match['parameter']]}.{match['slot']}"] = np.asarray(tensor.numpy())
        return arrays

    def load_state(self, arrays: Arrays, origin: str) -> None:
        """The inverse of `state`; `origin` is named in errors."""
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

    def _structured_names(self) -> dict[str, str]:
        """Paddle names parameters by counters of the whole process; the place in the network is what lasts."""
        return {parameter.name: name for name, parameter in self.trained.items()}

    def _new_average(self) -> dict[str, paddle.Tensor]:
        frozen = {name for name, parameter in self.network.named_parameters() if parameter.stop_gradient}
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


OPTIMIZER_KEY = re.compile(r"(?P<parameter>.+?)_(?P<slot>velocity_0|moment[12]_0|beta[12]_pow_acc_0)")


def _optimizer(network: nn.Layer, trained: dict[str, Any], settings: Optimization) -> paddle.optimizer.Optimizer:
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
    """Biases and everything in normalisation layers."""
    names = {name for name, _ in network.named_parameters() if name.endswith("bias")}
    for prefix, layer in network.named_sublayers():
        if isinstance(layer, NORMALISATION):
            names |= {f"{prefix}.{name}" for name, _ in layer.named_parameters()}
    return names
