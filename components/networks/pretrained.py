"""Pretrained backbone weights from a file into a network, saying what fitted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from components.errors import UserError

LEAST_MATCH = 0.9
"""A file that fills less of the backbone than this is the wrong file."""

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Match:
    """How many of the backbone's tensors the file filled, and what stayed as it was on either side."""

    filled: int
    wanted: int
    unfilled: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.filled} of {self.wanted} backbone tensors"
        return text + (f", {len(self.unused)} in the file unused" if self.unused else "")


def load_backbone(network: nn.Layer, path: Path) -> Match:
    """Fill the network's backbone from an .npz or .safetensors file.

    Tensors are matched by name, PyTorch's names for running statistics included. A file with foreign names is matched
    by order where every shape agrees, since exporters rename tensors and keep their order; it may go on after the
    backbone, with a classifier. Raises UserError when under 90% fit.
    """
    prefix = getattr(network, "BACKBONE", None)
    if prefix is None:
        raise UserError(
            f"{type(network).__name__} has no backbone for pretrained weights; leave network.pretrained empty"
        )
    wanted = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(prefix + ".")}
    arrays = read_arrays(path)
    pairs = _by_name(wanted, arrays, prefix)
    if len(pairs) < LEAST_MATCH * len(wanted):
        pairs = _by_order(wanted, arrays) or pairs
    if len(pairs) < LEAST_MATCH * len(wanted):
        raise UserError(
            f"{path} fits {len(pairs)} of {len(wanted)} tensors of {type(network).__name__}'s backbone; "
            "it belongs to another network"
        )
    for name, source in pairs.items():
        wanted[name].set_value(paddle.to_tensor(arrays[source].astype(np.float32)))
    used = set(pairs.values())
    return Match(
        filled=len(pairs),
        wanted=len(wanted),
        unfilled=tuple(name for name in wanted if name not in pairs),
        unused=tuple(name for name in arrays if name not in used),
    )


def read_arrays(path: Path) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Every array of an .npz or .safetensors file, in the file's order. Nothing in it is executed."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
    except Exception as error:  # numpy, zipfile and safetensors each raise their own kinds for a damaged file
        raise UserError(f"pretrained weights {path} cannot be read: {' '.join(str(error).split())}") from None
    raise UserError(f"pretrained weights {path} must be an .npz or .safetensors file")


def _by_name(wanted: Mapping[str, paddle.Tensor], arrays: Arrays, prefix: str) -> dict[str, str]:
    ours = {_paddle_name(source): source for source in arrays}
    pairs = {}
    for name, tensor in wanted.items():
        for candidate in (name, name.removeprefix(prefix + ".")):
            source = ours.get(candidate)
            if source is not None and arrays[source].shape == tuple(tensor.shape):
                pairs[name] = source
    return pairs


def _paddle_name(name: str) -> str:
    """PyTorch's `running_mean` and `running_var` are `_mean` and `_variance` here."""
    return name.replace(".running_mean", "._mean").replace(".running_var", "._variance")


def _by_order(wanted: Mapping[str, paddle.Tensor], arrays: Arrays) -> dict[str, str]:
    pairs = dict(zip(wanted, arrays, strict=False))
    fits = len(pairs) == len(wanted) and all(
        arrays[source].shape == tuple(wanted[name].shape) for name, source in pairs.items()
    )
    return pairs if fits else {}
