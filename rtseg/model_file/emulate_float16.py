"""An fp16 graph for a runtime that has no fp16: float32 arithmetic, every value rounded to fp16 on its way.

On a CPU, ONNX Runtime and OpenVINO compute an fp16 graph in float32 and leave the rounding between its nodes out (ONNX
Runtime's ``InsertCastTransformer`` drops the casts that it put in itself). Labels so computed say nothing of fp16: not
what its ten bits cost, nor that it overflows at 65504. Casts that stand in the graph are kept.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from rtseg.model_file.graph import copy_of, value_types
from rtseg.model_file.load import ModelFile

__all__ = ["emulate_float16"]

_EXACT = {
    *("Relu", "MaxPool", "Clip", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Slice", "Split"),
    *("Identity", "Expand", "Gather", "Constant", "DequantizeLinear"),
}
"""Operators that make no value which fp16 has not. A GPU computes what follows a DequantizeLinear in integers."""
_HALF, _FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def emulate_float16(model: ModelFile) -> ModelFile:
    """``model`` with every fp16 tensor in float32, rounded to fp16 by a pair of casts behind each node that makes it.

    A GPU rounds no more often than this: it fuses nodes, and adds up in float32 inside of them.

    Args:
        model: as ``to_float16`` gives it; a graph without fp16 stays as it is.

    Raises:
        ModelError: the graph is not consistent.
    """
    graph = copy_of(model)
    types = value_types(graph)
    nodes = []
    for node in graph.graph.node:
        _widen_constants(node)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if types.get(name) != _HALF or node.op_type in _EXACT:
                continue
            half = f"{name}.half"
            if node.op_type == "Cast":
                node.output[place] = half
            else:
                node.output[place] = f"{name}.exact"
                nodes.append(helper.make_node("Cast", [node.output[place]], [half], f"{half}.cast", to=_HALF))
            nodes.append(helper.make_node("Cast", [half], [name], f"{name}.rounded", to=_FLOAT))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    del graph.graph.value_info[:]
    for tensor in graph.graph.initializer:
        if tensor.data_type == _HALF:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    return ModelFile(model.path, model.spec, graph)


def _widen_constants(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == _HALF:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype("float32")))
