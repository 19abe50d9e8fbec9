"""Walks from an output of a graph towards its beginning, and removes what does not change the largest channel."""

from __future__ import annotations

import onnx
from onnx import TensorProto

__all__ = ["ends_in", "expose_scores", "open_argmax", "strip_activation"]

_PASSED = ("Identity", "Transpose", "Squeeze", "Unsqueeze")
_RESHAPED = ("Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def ends_in(graph: onnx.GraphProto, output: str, operators: tuple[str, ...]) -> str:
    """Return which of ``operators`` is the last to change the values of an output; empty if another one is."""
    node = _last_node(graph, output)
    return node.op_type if node is not None and node.op_type in operators else ""


def strip_activation(graph: onnx.GraphProto, output: str, operators: tuple[str, ...]) -> str:
    """Remove the last node that changes the values of an output, if it is one of ``operators`` and has no other reader.

    Returns:
        Its operator, or an empty string if nothing was removed.
    """
    node = _last_node(graph, output)
    if node is None or node.op_type not in operators:
        return ""
    (result,) = node.output
    readers = [reader for reader in graph.node if result in reader.input]
    # The output itself may be the result: then an Identity takes its name.
    if result in {value.name for value in graph.output}:
        if readers:
            return ""
        node_type = node.op_type
        identity = onnx.helper.make_node("Identity", [node.input[0]], [result], node.name)
        node.CopyFrom(identity)
        return node_type
    if len(readers) != 1:
        return ""
    readers[0].input[:] = [node.input[0] if name == result else name for name in readers[0].input]
    graph.node.remove(node)
    return node.op_type


def expose_scores(model: onnx.ModelProto, allowed: set[str]) -> dict[str, tuple[str, int]]:
    """Make an output of what each ArgMax reads that ends a graph.

    Args:
        model: changed in place.
        allowed: tensors that may be exposed.

    Returns:
        Output with class IDs -> the new output with their scores, and the dimension of its channels.
    """
    found = {}
    for name in [value.name for value in model.graph.output]:
        scores = open_argmax(model.graph, name)
        taken = {value.name for value in model.graph.output}
        if scores is not None and scores[0] in allowed - taken:
            found[name] = scores
            model.graph.output.append(onnx.ValueInfoProto(name=scores[0]))
    return found


def open_argmax(graph: onnx.GraphProto, output: str) -> tuple[str, int] | None:
    """Return what the ArgMax reads that ends a graph, and its axis; None if the graph does not end in one.

    Behind it there may be changes of the shape and of the number format, but no other computation.
    """
    producers = {name: node for node in graph.node for name in node.output}
    node = producers.get(output)
    while node is not None and node.op_type in (*_RESHAPED, "Cast"):
        node = producers.get(node.input[0])
    if node is None or node.op_type != "ArgMax":
        return None
    numbers = {attribute.name: attribute.i for attribute in node.attribute}
    if numbers.get("select_last_index", 0):
        return None
    return node.input[0], numbers.get("axis", 0)


def _last_node(graph: onnx.GraphProto, output: str) -> onnx.NodeProto | None:
    """Return the last node that changes values, not only their place or number format."""
    producers = {name: node for node in graph.node for name in node.output}
    node = producers.get(output)
    while node is not None and (node.op_type in _PASSED or _is_float_cast(node, producers)):
        node = producers.get(node.input[0])
    return node


def _is_float_cast(node: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> bool:
    if node.op_type != "Cast":
        return False
    to = next(attribute.i for attribute in node.attribute if attribute.name == "to")
    before = producers.get(node.input[0])
    return to in _FLOATS or (before is not None and before.op_type == "ArgMax")
