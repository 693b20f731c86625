"""Strip the weights from ONNX graphs and fill the graphs with those of checkpoints. Needs no Paddle.

Two networks of one structure are merged into one graph. Where their tensors are equal, as in a shared frozen stem, they
share the same nodes.
"""

from collections.abc import Iterable, Mapping, Sequence
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
    """Return an exported model without the values of its parameters.

    Args:
        names: maps the exporter's parameter names to those in weights files.
        output: new name of the graph's only output.
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
    old_output = graph.output[0].name
    for node in kept:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [output if name == old_output else name for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    graph.output[0].name = output
    stripped: bytes = model.SerializeToString()
    return stripped


def fill(skeleton: bytes, states: Mapping[str, State], *, origin: str) -> ModelProto:
    """Return one model for the networks in `states`, with one output per branch, named after it.

    Raises UserError, which names `origin`, if a tensor is missing or has the wrong shape.
    """
    return fill_each(dict.fromkeys(states, skeleton), states, origin=origin)


def fill_each(skeletons: Mapping[str, bytes], states: Mapping[str, State], *, origin: str) -> ModelProto:
    """Return one model, like `fill`, for networks of different structures. All skeletons have the same window size."""
    merged = _Merged()
    for branch, state in states.items():
        exported = onnx.load_from_string(skeletons[branch])
        merged.add(exported.graph, branch, state, origin)
    nodes = _used(merged.nodes, states)
    graph = helper.make_graph(nodes, "networks", exported.graph.input, merged.outputs, merged.initializers)
    return helper.make_model(graph, opset_imports=exported.opset_import, ir_version=exported.ir_version)


def _used(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """Return the nodes that contribute to an output. The exporter leaves others, which onnxruntime warns about."""
    needed = set(outputs)
    kept: list[NodeProto] = []
    for node in reversed(nodes):  # a node comes after those that it uses
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


class _Merged:
    """Merges graphs one after the other, reusing nodes that would compute the same result."""

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
        # Two branches may end in the same node, but each output needs its own name.
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
                f"{origin}: tensor {wanted.name!r} has shape {array.shape}, but the network needs {tuple(wanted.dims)}"
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
