"""Another input size for a model file, without torch and without training.

A graph of convolutions, local pooling and resizing by a factor takes any size as it is. What depends on the size
stands in weights that export names for it: the matrices of pyramid pooling, and the ones over which a mean is spread.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from rtseg.errors import OptionError
from rtseg.model_file.load import ModelFile
from rtseg.model_file.pooling import pyramid_matrix
from rtseg.model_file.spec import write_spec

__all__ = ["at_size"]

_MULTIPLE = 32
_LARGEST = 8192
"""Pixels of a side: what a network needs for more fits into no machine's memory."""
_PYRAMID = re.compile(r"\.(rows|columns)_(\d+)$")
"""Name of a matrix of ``rtseg.models.icnet.PyramidPooling``."""
_ONES = re.compile(r"\.ones$")
"""Name of the map of ``rtseg.models.deeplabv3.ImagePooling``."""
_LOCAL = {
    *("ArgMax", "AveragePool", "Cast", "Clip", "Conv", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity"),
    *("MaxPool", "ReduceMean", "Relu", "Sigmoid", "Tanh", "Transpose", "QuantizeLinear", "DequantizeLinear"),
}
"""Operators that treat every place of a map alike, whatever its size; ``_is_local`` knows more, on conditions."""


def at_size(model: ModelFile, size: tuple[int, int]) -> ModelFile:
    """``model`` for input of another size. Its measured mIoU holds for its own size only and is left out.

    Args:
        model: as loaded.
        size: (H, W), in pixels.

    Raises:
        OptionError: the size is no multiple of 32, or the graph is not one whose size rtseg can change.
    """
    height, width = size
    if height < _MULTIPLE or width < _MULTIPLE or height % _MULTIPLE or width % _MULTIPLE:
        near = "x".join(str(max(1, round(v / _MULTIPLE)) * _MULTIPLE) for v in size)
        raise OptionError(f"--size wants multiples of {_MULTIPLE}, got {height}x{width}: try {near}")
    if max(size) > _LARGEST:
        raise OptionError(f"--size may be up to {_LARGEST} on a side, got {height}x{width}")
    if not _is_sizeless(model):
        own = "x".join(map(str, model.spec.size))
        raise OptionError(f"{model.path} runs at its own size {own} only: export it again with --size {height}x{width}")
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    for tensor in graph.graph.initializer:
        if _PYRAMID.search(tensor.name) or _ONES.search(tensor.name):
            _remake(tensor, model.spec.size, size)
    for value in (*graph.graph.input, *graph.graph.output):
        dims = value.type.tensor_type.shape.dim
        # The state of a sequence model is (N, D, h, w), frames and labels begin with (N, H, W).
        places = dims[2:4] if value.name in ("state", "next_state") else dims[1:3]
        for dim, length, old in zip(places, size, model.spec.size, strict=True):
            dim.dim_value = dim.dim_value * length // old
    del graph.graph.value_info[:]  # shapes in between, where a tool noted them
    spec = replace(model.spec, size=size, miou=None, measured_on="", extra={})
    write_spec(graph, spec)
    return ModelFile(model.path, spec, graph)


def _remake(tensor: onnx.TensorProto, old: tuple[int, int], new: tuple[int, int]) -> None:
    """Make a weight that depends on the size of the input for another one."""
    found = _PYRAMID.search(tensor.name)
    if found is None:
        rows, columns = (length * to // own for length, to, own in zip(tensor.dims, new, old, strict=True))
        tensor.CopyFrom(numpy_helper.from_array(np.ones((rows, columns), np.float32), tensor.name))
        return
    axis, bins = found[1], int(found[2])
    along = 0 if axis == "rows" else 1
    length = tensor.dims[0] * new[along] // old[along]
    tensor.CopyFrom(numpy_helper.from_array(pyramid_matrix(axis, length, bins), tensor.name))


def _is_sizeless(model: ModelFile) -> bool:
    """Whether the graph's meaning does not hang on the size of its input, but for the weights named for it."""
    graph = model.graph.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    # Older exports merged matrices that were equal at their own size; at another one they would differ.
    if any(uses[name] != 1 for name in weights if _PYRAMID.search(name) or _ONES.search(name)):
        return False
    return all(node.domain in ("", "ai.onnx") and _is_local(node, weights) for node in graph.node)


def _is_local(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    """Whether an operator does the same at every place, or only what the weights named for the size tell it."""
    given = [name for name in node.input if name in weights]
    if node.op_type in ("Add", "Concat", "Div", "Mul", "Sub"):
        # A constant may differ between channels, not between places.
        flat = [name for name in given if not (node.op_type == "Mul" and _ONES.search(name))]
        return all(max((*weights[name].dims[-2:], 1)) == 1 for name in flat)
    if node.op_type == "ConvTranspose":
        return all(attribute.name != "output_shape" for attribute in node.attribute)
    if node.op_type == "MatMul":
        return len(given) == 1 and _PYRAMID.search(given[0]) is not None
    if node.op_type == "Resize":  # by a factor, not to a size
        return len(node.input) == 3 and node.input[2] in weights
    if node.op_type == "Slice":  # of channels
        return len(node.input) > 3 and node.input[3] in weights and _is_channel_axis(weights[node.input[3]])
    return node.op_type in _LOCAL


def _is_channel_axis(axes: onnx.TensorProto) -> bool:
    return bool((numpy_helper.to_array(axes) == 1).all())
