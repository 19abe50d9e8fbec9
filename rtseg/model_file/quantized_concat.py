"""Keeps OpenVINO from computing the convolutions behind a concatenation wrongly in int8.

OpenVINO moves the quantization of a concatenated tensor in front of the concatenation, as unsigned bytes with a zero
point of 128. The convolution that reads them then lacks this zero point, and its results are off by a third of their
range (OpenVINO 2026.4; found with ESPNet, and with a graph of two inputs, a Concat and a convolution). A pooling of
single pixels between QuantizeLinear and DequantizeLinear prevents the move and changes no value. The convolution still
runs in int8.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper

from rtseg.model_file.graph import copy_graph, find_consumers
from rtseg.model_file.load import ModelFile

__all__ = ["separate_quantized_concats"]

_TRANSPARENT = ("Relu", "Clip", "BatchNormalization", "MaxPool", "Reshape", "Transpose", "Resize", "Cast", "Identity")
"""Operators that a quantization may be moved through, by their first input."""
_AFFINE = ("Add", "Sub", "Mul", "Div")
"""The same, if the other input is a constant."""


def separate_quantized_concats(model: ModelFile) -> ModelFile:
    """Put a pooling of single pixels into each Q/DQ pair of a concatenated tensor.

    Args:
        model: with or without Q/DQ pairs; it is not changed.

    Returns:
        The model, with the same values everywhere.
    """
    graph = copy_graph(model)
    producers = {name: node for node in graph.graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.graph.initializer}
    consumers = find_consumers(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        nodes.append(node)
        if node.op_type != "QuantizeLinear" or not _is_concatenated(node.input[0], producers, constants):
            continue
        name = f"{node.output[0]}_single_pixels"
        nodes.append(helper.make_node("MaxPool", [node.output[0]], [name], name, kernel_shape=[1, 1]))
        for reader, index in consumers.get(node.output[0], []):
            reader.input[index] = name
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return ModelFile(model.path, model.spec, graph)


def _is_concatenated(tensor: str, producers: Mapping[str, onnx.NodeProto], constants: set[str]) -> bool:
    """Return whether ``tensor`` is a concatenation, perhaps after operators that a quantization is moved through."""
    node = producers.get(tensor)
    while node is not None and node.op_type != "Concat":
        inputs = [name for name in node.input if name not in constants]
        if node.op_type not in _TRANSPARENT and not (node.op_type in _AFFINE and len(inputs) == 1):
            return False
        node = producers.get(inputs[0]) if inputs else None
    return node is not None
