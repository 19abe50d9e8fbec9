"""Another input size for a model file, without torch and without training."""

from __future__ import annotations

import re
from dataclasses import replace

import onnx
from onnx import numpy_helper

from rtseg.errors import OptionError
from rtseg.pyramid import pyramid_matrix
from rtseg.spec import ModelFile, write_spec

__all__ = ["at_size"]

_MULTIPLE = 32
_PYRAMID = re.compile(r"\.(rows|columns)_(\d+)$")
"""Name of a matrix of pyramid pooling: the only weights that depend on the size; all else is convolution."""


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
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    matrices = [tensor for tensor in graph.graph.initializer if _PYRAMID.search(tensor.name)]
    if model.spec.architecture != "icnet" or not matrices:
        own = "x".join(map(str, model.spec.size))
        raise OptionError(f"{model.path} runs at its own size {own} only: export it again with --size {height}x{width}")
    lengths = {"rows": height // _MULTIPLE, "columns": width // _MULTIPLE}
    for tensor in matrices:
        found = _PYRAMID.search(tensor.name)
        assert found is not None
        axis, bins = found[1], int(found[2])
        tensor.CopyFrom(numpy_helper.from_array(pyramid_matrix(axis, lengths[axis], bins), tensor.name))
    for value in (*graph.graph.input, *graph.graph.output):
        for dim, length in zip(value.type.tensor_type.shape.dim[1:3], size, strict=True):
            dim.dim_value = length
    spec = replace(model.spec, size=size, miou=None, measured_on="", extra={})
    write_spec(graph, spec)
    return ModelFile(model.path, spec, graph)
