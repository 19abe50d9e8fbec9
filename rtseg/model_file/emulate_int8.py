"""A Q/DQ graph in float32 arithmetic: what int8 must give, on any processor and runtime, only slower.

Runtimes recognize Q/DQ pairs and compute what lies between them in integers, which may saturate (see
``rtseg.system.cpu``). Here a pair is written as the division, rounding, clipping and product that it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rtseg.errors import ModelError
from rtseg.model_file.graph import copy_graph
from rtseg.model_file.load import ModelFile

__all__ = ["emulate_int8"]


def emulate_int8(model: ModelFile) -> ModelFile:
    """``model`` with every QuantizeLinear and DequantizeLinear replaced by float32 operators; the same values.

    Source: ONNX operator specification, QuantizeLinear: ``saturate(round(x / scale) + zero_point)``, ties to even.
    """
    graph = copy_graph(model)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    made: dict[str, NDArray[np.float32]] = {}
    for node in graph.graph.node:
        if node.op_type == "QuantizeLinear":
            nodes += _quantize(node, tensors, made)
        elif node.op_type == "DequantizeLinear":
            nodes += _dequantize(node, tensors, made)
        else:
            nodes.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items())
    del graph.graph.value_info[:]
    return ModelFile(model.path, model.spec, graph)


def _quantize(
    node: onnx.NodeProto, tensors: Mapping[str, NDArray[Any]], made: dict[str, NDArray[np.float32]]
) -> list[onnx.NodeProto]:
    source, result = node.input[0], node.output[0]
    scale, zero = _scale_and_zero(node, tensors, source)
    kind = tensors[node.input[2]].dtype if len(node.input) > 2 else np.dtype(np.uint8)
    bounds = np.iinfo(kind)
    made |= {
        f"{result}.scale": scale,
        f"{result}.zero": zero,
        f"{result}.min": np.asarray(bounds.min, np.float32),
        f"{result}.max": np.asarray(bounds.max, np.float32),
    }
    return [
        helper.make_node("Div", [source, f"{result}.scale"], [f"{result}.divided"], f"{result}.div"),
        helper.make_node("Round", [f"{result}.divided"], [f"{result}.rounded"], f"{result}.round"),
        helper.make_node("Add", [f"{result}.rounded", f"{result}.zero"], [f"{result}.shifted"], f"{result}.add"),
        helper.make_node("Clip", [f"{result}.shifted", f"{result}.min", f"{result}.max"], [result], f"{result}.clip"),
    ]


def _dequantize(
    node: onnx.NodeProto, tensors: Mapping[str, NDArray[Any]], made: dict[str, NDArray[np.float32]]
) -> list[onnx.NodeProto]:
    source, result = node.input[0], node.output[0]
    scale, zero = _scale_and_zero(node, tensors, source)
    if source in tensors:
        made[result] = (tensors[source].astype(np.float32) - zero) * scale
        return []
    made |= {f"{result}.scale": scale, f"{result}.zero": zero}
    return [
        helper.make_node("Sub", [source, f"{result}.zero"], [f"{result}.shifted"], f"{result}.sub"),
        helper.make_node("Mul", [f"{result}.shifted", f"{result}.scale"], [result], f"{result}.mul"),
    ]


def _scale_and_zero(
    node: onnx.NodeProto, tensors: Mapping[str, NDArray[Any]], source: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both of them, float32, shaped to be combined with ``source`` along the axis of the node.

    Raises:
        ModelError: there is one for each channel of something else than weights.
    """
    scale = tensors[node.input[1]].astype(np.float32)
    zero = tensors[node.input[2]].astype(np.float32) if len(node.input) > 2 else np.zeros_like(scale)
    if scale.size == 1:
        return scale.reshape(()), zero.reshape(())
    if source not in tensors:
        raise ModelError(f"node {node.name!r} has a scale for each channel of {source!r}, which holds no weights")
    shape = [1] * tensors[source].ndim
    shape[next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)] = -1
    return scale.reshape(shape), zero.reshape(shape)
