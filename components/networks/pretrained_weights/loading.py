"""Load pretrained backbone weights from a file into a network, and report which tensors matched."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from components.errors import UserError
from components.networks.pretrained_weights.pdparams import read_pdparams
from components.networks.pretrained_weights.torch_weights import read_torch

MIN_MATCH = 0.9
"""A file that matches a smaller share of the backbone's tensors is refused."""
SUFFIXES = (".npz", ".safetensors", ".pdparams", ".pth", ".pt")
SHOWN = 4
"""Maximum number of tensor names in a log line."""

Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Match:
    """How many of the backbone's tensors the file filled, and the unmatched tensors on both sides, without scalars."""

    filled: int
    wanted: int
    unfilled: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.filled} of {self.wanted} backbone tensors"
        for names, what in ((self.unfilled, "not in the file"), (self.unused, "in the file and not used")):
            if names:
                text += f"; {what}: {', '.join(names[:SHOWN])}"
                text += f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return text


def load_backbone(network: nn.Layer, path: Path) -> Match:
    """Fill the network's backbone from a file that `read_arrays` reads.

    Tensors are matched by name, including PyTorch's names for running statistics. If the names differ but all shapes
    agree in order, tensors are matched by order, because exporters rename tensors but keep their order; the file may
    contain more after the backbone, such as a classifier. Raises UserError if less than 90 % match.
    """
    prefix = getattr(network, "BACKBONE", None)
    if prefix is None:
        raise UserError(
            f"{type(network).__name__} has no backbone for pretrained weights; leave network.pretrained empty"
        )
    wanted = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(prefix + ".")}
    arrays = read_arrays(path)
    pairs = _by_name(wanted, arrays, prefix)
    if len(pairs) < MIN_MATCH * len(wanted):
        pairs = _by_order(wanted, arrays) or pairs
    if len(pairs) < MIN_MATCH * len(wanted):
        raise UserError(
            f"{path} matches {len(pairs)} of {len(wanted)} tensors of {type(network).__name__}'s backbone"
            f"{_first_misfit(wanted, arrays, prefix)}; it belongs to another network"
        )
    for name, source in pairs.items():
        wanted[name].set_value(paddle.to_tensor(arrays[source].astype(np.float32)))
    used = set(pairs.values())
    return Match(
        filled=len(pairs),
        wanted=len(wanted),
        unfilled=tuple(name for name in wanted if name not in pairs),
        unused=tuple(name for name, array in arrays.items() if name not in used and array.ndim),
    )


def read_arrays(path: Path) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Return a file's arrays in order, without executing any of its content; its suffix is one of SUFFIXES."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
        if path.suffix == ".pdparams":
            return read_pdparams(path)
        if path.suffix in (".pth", ".pt"):
            return read_torch(path)
    except Exception as error:  # numpy, zipfile, safetensors and pickle raise different errors for damaged files
        raise UserError(f"pretrained weights {path} cannot be read: {' '.join(str(error).split())}") from None
    raise UserError(f"pretrained weights {path} must be one of these: {', '.join(SUFFIXES)}")


def _by_name(wanted: Mapping[str, paddle.Tensor], arrays: Arrays, prefix: str) -> dict[str, str]:
    pairs = _named(wanted, arrays, prefix)
    return {name: source for name, source in pairs if arrays[source].shape == tuple(wanted[name].shape)}


def _named(wanted: Mapping[str, paddle.Tensor], arrays: Arrays, prefix: str) -> list[tuple[str, str]]:
    """Return pairs of our names and the file's, which may lack the prefix of the backbone."""
    theirs = {_paddle_name(source): source for source in arrays}
    return [
        (name, theirs[candidate])
        for name in wanted
        for candidate in (name, name.removeprefix(prefix + "."))
        if candidate in theirs
    ]


def _first_misfit(wanted: Mapping[str, paddle.Tensor], arrays: Arrays, prefix: str) -> str:
    """Return the first tensor whose name matches but whose shape does not, which best explains the mismatch."""
    for name, source in _named(wanted, arrays, prefix):
        shape, needed = arrays[source].shape, tuple(wanted[name].shape)
        if shape != needed:
            return f" ({source!r} has shape {shape}, but the network needs {needed})"
    return ""


def _paddle_name(name: str) -> str:
    """Translate PyTorch's `running_mean` and `running_var` to Paddle's `_mean` and `_variance`."""
    return name.replace(".running_mean", "._mean").replace(".running_var", "._variance")


def _by_order(wanted: Mapping[str, paddle.Tensor], arrays: Arrays) -> dict[str, str]:
    # Skip scalars: PyTorch's count of batches has no counterpart in Paddle.
    pairs = dict(zip(wanted, (name for name, array in arrays.items() if array.ndim), strict=False))
    fits = len(pairs) == len(wanted) and all(
        arrays[source].shape == tuple(wanted[name].shape) for name, source in pairs.items()
    )
    return pairs if fits else {}
