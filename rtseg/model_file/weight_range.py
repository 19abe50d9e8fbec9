"""Quantized weights in 7 bits, for processors whose int8 products saturate."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rtseg.model_file.graph import copy_graph
from rtseg.model_file.load import ModelFile

__all__ = ["reduce_weight_range"]

_GREATEST = 64
_BYTES = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


def reduce_weight_range(model: ModelFile) -> ModelFile:
    """Bring the weights of a Q/DQ graph into -64 .. 64 and multiply their scales accordingly.

    The sum of two products of such a weight and a byte fits into 16 bits; see ``rtseg.system.cpu.int8_saturates``.
    Weights lose their lowest bit. ONNX Runtime and PyTorch call it "reduce range".
    """
    graph = copy_graph(model)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        stored = tensors.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if stored is None or stored.data_type not in _BYTES or node.input[1] not in tensors:
            continue
        values, scale = _without_zero_point(node, tensors), tensors[node.input[1]]
        factor = 1
        while values.size and np.abs(values).max() > factor * _GREATEST:
            factor *= 2
        if factor == 1:
            continue
        # New tensors under new names: the old ones may have other readers.
        reduced = numpy_helper.from_array(np.rint(values / factor).astype(np.int8), f"{node.output[0]}_7_bits")
        larger = numpy_helper.from_array(numpy_helper.to_array(scale) * factor, f"{node.output[0]}_7_bits_scale")
        graph.graph.initializer.extend([reduced, larger])
        del node.input[:]
        node.input.extend([reduced.name, larger.name])
    return ModelFile(model.path, model.spec, graph)


def _without_zero_point(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> NDArray[np.int16]:
    """Weights less their zero point, of the whole tensor or of each channel along ``axis``."""
    values = numpy_helper.to_array(tensors[node.input[0]]).astype(np.int16)
    if len(node.input) < 3 or node.input[2] not in tensors:
        return values
    zero = numpy_helper.to_array(tensors[node.input[2]]).astype(np.int16)
    if zero.size == 1:
        return values - zero.reshape(())
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
    shape = [1] * values.ndim
    shape[axis] = -1
    return values - zero.reshape(shape)
