"""Trained weights as other programs take them: ONNX, .pdparams, .npz.

None of it imports Paddle here: an ONNX graph is exported in a process of its own, and kept.
"""

import io
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.errors import UserError
from components.files import replacing
from components.inference.checkpoint import Description, read_description
from components.inference.exported import skeleton
from components.networks.onnx_graph import WINDOWS, fill_each
from components.networks.weights import Array, prefixes, read_file, structure_of

if TYPE_CHECKING:
    from onnx import ModelProto

States = Mapping[str, Mapping[str, Array]]

IN_PADDLESEG = "network."
"""What our names of a network that paddleseg has begin with, before the name that it has there."""
USE = (
    f"{WINDOWS}: (N, 3, height, width) float32, RGB from 0 to 1, minus mean, divided by std; crop is height, width. "
    "Every output: logits (N, classes, height, width). Of two outputs, average the softmax. An image that is larger: "
    "windows by stride (down, across), the last one of a row or column moved back inside, logits averaged where they "
    "overlap. One that is smaller: zeros at the bottom and right, after normalisation."
)
"""In an ONNX file's metadata: all that its user has to know besides the numbers there."""


def convert(path: Path, form: str, target: Path, *, branch: str = "") -> None:
    """Write a weights file as `onnx`, `pdparams` or `npz`; the result appears whole or not at all.

    Args:
        branch: of a pair, the only network to take: `left` or `right`.

    Raises:
        UserError: it is no weights file of ours, holds no such network, or the form has no place for two.
        WorkFailed: the structure cannot be exported to ONNX.
    """
    arrays, meta = read_file(path)
    states = {
        name: {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        for name, prefix in prefixes(meta).items()
    }
    if branch:
        if branch not in states:
            raise UserError(
                f"{path.name} holds the best network alone, {meta.get('variant', 'only')}: leave --branch out"
            )
        states = {branch: states[branch]}
    _write_whole(target, _FORMS[form](states, meta, path.name))


def to_onnx(states: States, meta: Mapping[str, str], origin: str) -> bytes:
    """A model with an output of logits for each network; its metadata says how to use it."""
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

    said = {
        **{name: text for name, text in meta.items() if name not in ("format", "branches")},
        "classes": json.dumps([item.name for item in description.classes]),
        "palette": json.dumps([item.color for item in description.classes]),
        "use": USE,
    }
    helper.set_model_props(model, dict(sorted(said.items())))
    model.producer_name, model.doc_string = "cps", USE


def to_pdparams(states: States, meta: Mapping[str, str], origin: str) -> bytes:
    """A dictionary of arrays as `paddle.load` takes it, named as paddleseg names them in a network that it has."""
    if len(states) > 1:
        raise UserError(
            f"{origin}: the average of two networks won, and a .pdparams file holds one: add --branch left or --branch "
            "right, or take --format onnx or npz, which hold both"
        )
    ((branch, state),) = states.items()
    theirs = structure_of(meta, branch).startswith(("paddleseg:", "deeplabv3p-"))
    named = {name.removeprefix(IN_PADDLESEG) if theirs else name: array for name, array in state.items()}
    return pickle.dumps(named, protocol=4)


def to_npz(states: States, meta: Mapping[str, str], origin: str) -> bytes:  # noqa: ARG001 - as the others
    """Arrays by name, of a pair after `left.` and `right.`, and the metadata as a JSON text named `metadata`."""
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


def _write_whole(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
