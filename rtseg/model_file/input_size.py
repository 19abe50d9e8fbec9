"""Changes the input size of a model file, without torch and without training.

Convolutions, local pooling and resizing by a factor work at any size. Only some weights depend on the size: the
matrices of pyramid pooling and of upsampling, and the maps of ones that broadcast a mean. ``rtseg export`` gives them
special names.
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
from rtseg.model_file.pooling import pyramid_matrix, resize_matrix
from rtseg.model_file.spec import write_spec

__all__ = ["resize_input"]

_MULTIPLE = 32
_MAX_SIDE = 8192
"""In pixels. Larger images need more memory than any machine has."""
_PYRAMID = re.compile(r"\.(rows|columns)_(\d+)$")
"""Name of a matrix of ``rtseg.models.icnet.PyramidPooling``."""
_UPSAMPLE = re.compile(r"\.(rows|columns)_(\d+)_over_(\d+)$")
"""Name of a matrix of ``rtseg.models.context.Upsample``."""
_ONES = re.compile(r"\.ones$")
"""Name of the map of ones of ``rtseg.models.deeplabv3.ImagePooling``."""
_LOCAL_OPERATORS = {
    *("ArgMax", "AveragePool", "Cast", "Clip", "Conv", "Erf", "Exp", "GlobalAveragePool", "HardSigmoid", "HardSwish"),
    *("Identity", "MaxPool", "ReduceMax", "ReduceMean", "Relu", "Sigmoid", "Tanh", "Transpose"),
    *("QuantizeLinear", "DequantizeLinear"),
}
"""Operators that treat all pixels alike, at any size. ``_is_local`` allows others under conditions."""


def resize_input(model: ModelFile, size: tuple[int, int]) -> ModelFile:
    """Change the input size of ``model``. The measured mIoU is removed, as it holds only for the original size.

    Args:
        model: as loaded.
        size: (H, W), in pixels.

    Raises:
        OptionError: ``size`` is not a multiple of 32, or rtseg cannot change the size of this graph.
    """
    height, width = size
    if height < _MULTIPLE or width < _MULTIPLE or height % _MULTIPLE or width % _MULTIPLE:
        nearest = "x".join(str(max(1, round(v / _MULTIPLE)) * _MULTIPLE) for v in size)
        raise OptionError(f"--size must be multiples of {_MULTIPLE}, got {height}x{width}: try {nearest}")
    if max(size) > _MAX_SIDE:
        raise OptionError(f"--size may be up to {_MAX_SIDE} per side, got {height}x{width}")
    if not _is_resizable(model):
        own = "x".join(map(str, model.spec.size))
        verb = "import" if "import" in model.spec.extra else "export"
        raise OptionError(f"{model.path} runs only at its own size {own}: {verb} it again with --size {height}x{width}")
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    for tensor in graph.graph.initializer:
        if _depends_on_size(tensor.name):
            _resize_weight(tensor, model.spec.size, size)
    for value in (*graph.graph.input, *graph.graph.output):
        dims = value.type.tensor_type.shape.dim
        # The state of a sequence model is (N, D, h, w). Frames and labels begin with (N, H, W).
        sides = dims[2:4] if value.name in ("state", "next_state") else dims[1:3]
        for dim, length, old in zip(sides, size, model.spec.size, strict=True):
            dim.dim_value = dim.dim_value * length // old
    del graph.graph.value_info[:]  # may hold shapes of intermediate tensors
    spec = replace(model.spec, size=size, miou=None, measured_on="", extra={})
    write_spec(graph, spec)
    return ModelFile(model.path, spec, graph)


def _resize_weight(tensor: onnx.TensorProto, old: tuple[int, int], new: tuple[int, int]) -> None:
    """Replace a weight that depends on the input size by the one for another size."""
    match = _UPSAMPLE.search(tensor.name)
    if match is not None:
        axis, stride, factor = match[1], int(match[2]), int(match[3])
        side = new[0] if axis == "rows" else new[1]
        tensor.CopyFrom(numpy_helper.from_array(resize_matrix(axis, -(-side // stride), factor), tensor.name))
        return
    match = _PYRAMID.search(tensor.name)
    if match is None:
        rows, columns = (length * to // own for length, to, own in zip(tensor.dims, new, old, strict=True))
        tensor.CopyFrom(numpy_helper.from_array(np.ones((rows, columns), np.float32), tensor.name))
        return
    axis, bins = match[1], int(match[2])
    side = 0 if axis == "rows" else 1
    length = tensor.dims[0] * new[side] // old[side]
    tensor.CopyFrom(numpy_helper.from_array(pyramid_matrix(axis, length, bins), tensor.name))


def _depends_on_size(name: str) -> bool:
    return any(kind.search(name) for kind in (_PYRAMID, _UPSAMPLE, _ONES))


def _is_resizable(model: ModelFile) -> bool:
    """Return whether only the specially named weights of a graph depend on its input size."""
    graph = model.graph.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    # Older exports merged matrices that are equal at the original size but differ at another one.
    if any(uses[name] != 1 for name in weights if _depends_on_size(name)):
        return False
    divisors = {node.input[1] for node in graph.node if node.op_type == "Div"}
    return all(
        node.domain in ("", "ai.onnx") and (_is_local(node, weights) or _is_normalising_sum(node, divisors))
        for node in graph.node
    )


def _is_normalising_sum(node: onnx.NodeProto, divisors: set[str]) -> bool:
    """Return whether a node sums pixels to divide by the sum, as in a softmax over them."""
    return node.op_type == "ReduceSum" and node.output[0] in divisors


def _is_local(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    """Return whether a node treats all pixels alike, apart from the specially named weights."""
    constants = [name for name in node.input if name in weights]
    if node.op_type in ("Add", "Concat", "Div", "Mul", "Sub"):
        # A constant may differ between channels, but not between pixels.
        per_channel = [name for name in constants if not (node.op_type == "Mul" and _ONES.search(name))]
        return all(max((*weights[name].dims[-2:], 1)) == 1 for name in per_channel)
    if node.op_type == "ConvTranspose":
        return all(attribute.name != "output_shape" for attribute in node.attribute)
    if node.op_type == "MatMul":
        return len(constants) == 1 and any(kind.search(constants[0]) for kind in (_PYRAMID, _UPSAMPLE))
    if node.op_type == "Resize":  # by a factor, not to a size
        return len(node.input) == 3 and node.input[2] in weights
    if node.op_type == "ReduceSum":  # of channels
        return len(node.input) == 2 and node.input[1] in weights and _is_channel_axis(weights[node.input[1]])
    if node.op_type == "Slice":  # of channels
        return len(node.input) > 3 and node.input[3] in weights and _is_channel_axis(weights[node.input[3]])
    return node.op_type in _LOCAL_OPERATORS


def _is_channel_axis(axes: onnx.TensorProto) -> bool:
    return bool((numpy_helper.to_array(axes) == 1).all())
