"""Functions that all conversions of a graph share: copy it, fold fp16 casts, look up consumers and types."""

from __future__ import annotations

import onnx
from onnx import TensorProto, numpy_helper

from rtseg.errors import ModelError
from rtseg.model_file.load import ModelFile

__all__ = ["copy_graph", "find_consumers", "fold_fp16_casts", "infer_types", "is_quantized"]


def copy_graph(model: ModelFile) -> onnx.ModelProto:
    """Return a copy of the graph of ``model`` that may be changed."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    return graph


def fold_fp16_casts(graph: onnx.ModelProto) -> None:
    """Replace each fp16 weight and the cast that reads it by one float32 weight, named like the result of the cast."""
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes = []
    for node in graph.graph.node:
        tensor = stored.get(node.input[0]) if _casts_to_float(node) else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT16:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(tensor).astype("float32")
        graph.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in graph.graph.initializer if tensor.name in used]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(weights)


def _casts_to_float(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == TensorProto.FLOAT for a in node.attribute)


def is_quantized(graph: onnx.ModelProto) -> bool:
    """Return whether a graph contains Q/DQ pairs."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.graph.node)


def find_consumers(graph: onnx.ModelProto) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
    """Return tensor -> the nodes that read it, each with the index of that input."""
    consumers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.graph.node:
        for index, name in enumerate(node.input):
            consumers.setdefault(name, []).append((node, index))
    return consumers


def infer_types(graph: onnx.ModelProto) -> dict[str, int]:
    """Return tensor -> its type in ``onnx.TensorProto.DataType``, and check every node.

    Raises:
        ModelError: types or shapes in the graph contradict each other.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        name = graph.graph.name
        raise ModelError(
            f"the graph {name!r} is inconsistent ({str(error).splitlines()[0]}): export it again"
        ) from error
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}
