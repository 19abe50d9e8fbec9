"""What every conversion of a model file's graph needs: a copy to work on, folded kernels, the type of each tensor."""

from __future__ import annotations

import onnx
from onnx import TensorProto, numpy_helper

from rtseg.errors import ModelError
from rtseg.model_file.load import ModelFile

__all__ = ["copy_of", "fold_kernels", "is_quantised", "readers", "value_types"]


def copy_of(model: ModelFile) -> onnx.ModelProto:
    """The graph of ``model``, to be changed at will."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    return graph


def fold_kernels(graph: onnx.ModelProto) -> None:
    """Turn kernels that are stored as fp16 and cast back into float32 weights under the name of the cast's result."""
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes = []
    for node in graph.graph.node:
        tensor = stored.get(node.input[0]) if _widens(node) else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT16:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(tensor).astype("float32")
        graph.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.graph.initializer if tensor.name in used]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)


def _widens(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == TensorProto.FLOAT for a in node.attribute)


def is_quantised(graph: onnx.ModelProto) -> bool:
    """Whether a graph holds Q/DQ pairs."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.graph.node)


def readers(graph: onnx.ModelProto) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
    """Tensor -> each node that reads it, and at which place of its inputs."""
    found: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            found.setdefault(name, []).append((node, place))
    return found


def value_types(graph: onnx.ModelProto) -> dict[str, int]:
    """Tensor -> its type, a number of ``onnx.TensorProto.DataType``; every node is checked on the way.

    Raises:
        ModelError: types or shapes in the graph contradict each other.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        name = graph.graph.name
        raise ModelError(
            f"the graph {name!r} contradicts itself ({str(error).splitlines()[0]}): export it again"
        ) from error
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}
