"""ONNX graphs without weights, and how checkpoints fill them. Needs no Paddle.

Two networks of one structure become one graph. Where they hold the same tensors, as those that share a frozen stem
do, they run through the same nodes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from components.errors import UserError

WINDOWS, LOGITS = "windows", "logits"
"""Names of a graph's input and output."""

Array = np.ndarray[Any, np.dtype[Any]]
State = Mapping[str, Array]


def without_weights(data: bytes, names: Mapping[str, str], output: str) -> bytes:
    """An exported model with its parameters' values taken out.

    Args:
        names: the exporter's name of each parameter, and the one it has in weights files.
        output: what the graph's only output is called from now on.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    kept: list[NodeProto] = []
    for node in graph.node:
        name = names.get(node.output[0]) if node.op_type == "Constant" else None
        if name is None:
            kept.append(node)
            continue
        value = node.attribute[0].t
        graph.initializer.append(TensorProto(name=name, dims=value.dims, data_type=value.data_type))
    was = graph.output[0].name
    for node in kept:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [output if name == was else name for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    graph.output[0].name = output
    stripped: bytes = model.SerializeToString()
    return stripped


def fill(skeleton: bytes, states: Mapping[str, State], *, origin: str) -> ModelProto:
    """The networks of `states`, by branch, as one model with an output for each, named by its branch.

    Raises UserError that names `origin` where a tensor is missing or of another shape.
    """
    return fill_each(dict.fromkeys(states, skeleton), states, origin=origin)


def fill_each(skeletons: Mapping[str, bytes], states: Mapping[str, State], *, origin: str) -> ModelProto:
    """`fill` for networks that may differ in structure: a skeleton for each, all for windows of one size."""
    merged = _Merged()
    for branch, state in states.items():
        exported = onnx.load_from_string(skeletons[branch])
        merged.add(exported.graph, branch, state, origin)
    graph = helper.make_graph(merged.nodes, "networks", exported.graph.input, merged.outputs, merged.initializers)
    return helper.make_model(graph, opset_imports=exported.opset_import, ir_version=exported.ir_version)


class _Merged:
    """Grows a graph network by network; what would compute the same again is left out."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.outputs: list[Any] = []
        self.initializers: list[TensorProto] = []
        self._arrays: dict[str, list[tuple[str, Array]]] = {}
        self._computed: dict[tuple[Any, ...], list[str]] = {}

    def add(self, graph: GraphProto, branch: str, state: State, origin: str) -> None:
        names = {WINDOWS: WINDOWS, "": ""}
        for tensor in graph.initializer:
            names[tensor.name] = self._initializer(branch, tensor, state, origin)
        for node in graph.node:
            self._node(node, branch, names)
        # Two branches may end in the same node, but each output needs a name of its own.
        self.nodes.append(helper.make_node("Identity", [names[LOGITS]], [branch]))
        logits = type(graph.output[0])()
        logits.CopyFrom(graph.output[0])
        logits.name = branch
        self.outputs.append(logits)

    def _initializer(self, branch: str, wanted: TensorProto, state: State, origin: str) -> str:
        array = state.get(wanted.name)
        if array is None:
            raise UserError(f"{origin}: no tensor {wanted.name!r}; the weights belong to another structure")
        if array.shape != tuple(wanted.dims):
            raise UserError(
                f"{origin}: tensor {wanted.name!r} has shape {array.shape}, the network needs {tuple(wanted.dims)}"
            )
        known = self._arrays.setdefault(wanted.name, [])
        for name, other in known:
            if np.array_equal(array, other):
                return name
        name = f"{branch}.{wanted.name}"
        known.append((name, array))
        dtype = helper.tensor_dtype_to_np_dtype(wanted.data_type)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
        return name

    def _node(self, node: NodeProto, branch: str, names: dict[str, str]) -> None:
        inputs = [names[name] for name in node.input]
        attributes = tuple(sorted(attribute.SerializeToString() for attribute in node.attribute))
        key = (node.op_type, node.domain, tuple(inputs), attributes)
        outputs = self._computed.get(key)
        if outputs is None:
            outputs = [f"{branch}.{name}" if name else "" for name in node.output]
            self._computed[key] = outputs
            copy = NodeProto(op_type=node.op_type, domain=node.domain, input=inputs, output=outputs)
            copy.attribute.extend(node.attribute)
            self.nodes.append(copy)
        names.update(zip(node.output, outputs, strict=True))
