"""Emulates fp16 on a CPU: float32 arithmetic, with every value rounded to fp16.

On a CPU, ONNX Runtime and OpenVINO compute an fp16 graph in float32 and do not round between its nodes (ONNX Runtime's
``InsertCastTransformer`` removes the casts that it inserted). Their labels show neither the rounding errors of fp16 nor
its overflow at 65504. Casts that are part of the graph are not removed.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from rtseg.model_file.graph import copy_graph, infer_types
from rtseg.model_file.load import ModelFile

__all__ = ["emulate_float16"]

_EXACT = {
    *("Relu", "MaxPool", "Clip", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Slice", "Split"),
    *("Identity", "Expand", "Gather", "Constant", "DequantizeLinear"),
}
"""Operators whose results need no rounding. A GPU computes the operator after a DequantizeLinear in integers."""
_FLOAT16, _FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def emulate_float16(model: ModelFile) -> ModelFile:
    """Change every fp16 tensor to float32, rounded to fp16 by a pair of casts after the node that computes it.

    A GPU rounds at most as often: it fuses nodes, and accumulates in float32 inside them.

    Args:
        model: a result of ``to_float16``. A graph without fp16 is unchanged.

    Raises:
        ModelError: the graph is inconsistent.
    """
    graph = copy_graph(model)
    types = infer_types(graph)
    nodes = []
    for node in graph.graph.node:
        _widen_constants(node)
        nodes.append(node)
        for index, name in enumerate(node.output):
            if types.get(name) != _FLOAT16 or node.op_type in _EXACT:
                continue
            rounded = f"{name}.fp16"
            if node.op_type == "Cast":
                node.output[index] = rounded
            else:
                node.output[index] = f"{name}.exact"
                nodes.append(helper.make_node("Cast", [node.output[index]], [rounded], f"{rounded}.cast", to=_FLOAT16))
            nodes.append(helper.make_node("Cast", [rounded], [name], f"{name}.rounded", to=_FLOAT))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    del graph.graph.value_info[:]
    for tensor in graph.graph.initializer:
        if tensor.data_type == _FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    return ModelFile(model.path, model.spec, graph)


def _widen_constants(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == _FLOAT16:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype("float32")))
