"""Convert trained weights to ONNX, .pdparams and .npz.

This module does not import Paddle: a separate process exports the ONNX graph, which is then cached.
"""

import io
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.disk import writing
from components.errors import UserError
from components.files import write_whole
from components.inference.checkpoint import Description, read_description
from components.inference.exported import skeleton
from components.networks.onnx_graph import WINDOWS, fill_each
from components.networks.weights import Array, prefixes, read_file, structure_of

if TYPE_CHECKING:
    from onnx import ModelProto

States = Mapping[str, Mapping[str, Array]]

PADDLESEG_PREFIX = "network."
"""Prefix of parameter names in a network from paddleseg; the rest is the name that paddleseg uses."""
USE = (
    f"{WINDOWS}: (N, 3, height, width) float32, RGB from 0 to 1, minus mean, divided by std; crop is (height, width). "
    "Each output: logits (N, classes, height, width). With two outputs, average their softmax. For a larger image, "
    "slide windows by stride (vertical, horizontal), shift the last window of a row or column back inside, and "
    "average logits where windows overlap. Pad a smaller image with zeros at the bottom and right, after "
    "normalisation. If longest_side is given and not 0, first reduce an image with a longer side to it by averaging "
    "pixels, and resize the logits to the image's size by linear interpolation."
)
"""Instructions in an ONNX file's metadata; the numbers are metadata too."""


def convert(path: Path, form: str, target: Path, *, branch: str = "") -> None:
    """Write a weights file as `onnx`, `pdparams` or `npz`; `target` is replaced atomically.

    Args:
        branch: `left` or `right`, to convert only that network of a pair.

    Raises:
        UserError: the file is not a weights file of this project, lacks the branch, or the format holds one network.
        WorkFailed: the structure cannot be exported to ONNX.
    """
    arrays, meta = read_file(path)
    states = {
        name: {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        for name, prefix in prefixes(meta).items()
    }
    if branch:
        if branch not in states:
            raise UserError(f"{path.name} holds only the best network, {meta.get('variant', 'only')}: remove --branch")
        states = {branch: states[branch]}
    data = _FORMS[form](states, meta, path.name)
    with writing(target, needed=len(data)):
        write_whole(target, data)


def to_onnx(states: States, meta: Mapping[str, str], origin: str) -> bytes:
    """Return an ONNX model with one logits output per network and usage instructions in its metadata."""
    description = read_description(meta, origin)
    graphs = {
        branch: skeleton(structure_of(meta, branch), len(description.classes), description.crop) for branch in states
    }
    model = fill_each(graphs, states, origin=origin)
    _describe(model, description, meta)
    data: bytes = model.SerializeToString()
    return data


def _describe(model: "ModelProto", description: Description, meta: Mapping[str, str]) -> None:
    from onnx import helper

    properties = {
        **{name: text for name, text in meta.items() if name not in ("format", "branches")},
        "classes": json.dumps([item.name for item in description.classes]),
        "palette": json.dumps([item.color for item in description.classes]),
        "use": USE,
    }
    helper.set_model_props(model, dict(sorted(properties.items())))
    model.producer_name, model.doc_string = "cps", USE


def to_pdparams(states: States, meta: Mapping[str, str], origin: str) -> bytes:
    """Return a dictionary of arrays for `paddle.load`; paddleseg's networks keep paddleseg's parameter names."""
    if len(states) > 1:
        raise UserError(
            f"{origin} holds two networks, whose average scored best, but a .pdparams file holds one: add --branch "
            "left or right, or use --format onnx or npz for both"
        )
    ((branch, state),) = states.items()
    from_paddleseg = structure_of(meta, branch).startswith(("paddleseg:", "deeplabv3p-"))
    named = {name.removeprefix(PADDLESEG_PREFIX) if from_paddleseg else name: array for name, array in state.items()}
    return pickle.dumps(named, protocol=4)


def to_npz(states: States, meta: Mapping[str, str], origin: str) -> bytes:  # noqa: ARG001 - same signature as the others
    """Return arrays by name, prefixed with `left.` and `right.` for a pair, and the metadata as JSON in `metadata`."""
    arrays = {
        f"{branch}.{name}" if len(states) > 1 else name: array
        for branch, state in states.items()
        for name, array in state.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, metadata=np.array(json.dumps(meta, sort_keys=True)), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


_FORMS: dict[str, Callable[[States, Mapping[str, str], str], bytes]] = {
    "onnx": to_onnx,
    "pdparams": to_pdparams,
    "npz": to_npz,
}
