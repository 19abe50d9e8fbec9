"""Rewrites the end of a graph of many classes: only the classes that can win somewhere in the frame are upsampled."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Values = NDArray[Any]

__all__ = ["upsample_candidates"]

_MIN_CLASSES = 32
"""With fewer classes, finding the candidates takes as long as it saves."""
_MARGIN = 2.0**-6
"""Relative tolerance for the rounding of the interpolation, also in bf16, whose steps are 2^-8."""
_P = "candidates."


def upsample_candidates(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that upsamples the scores of candidates only, or ``model`` if its end is another one.

    Bilinear interpolation mixes the scores of four neighbours with weights that sum to 1. So in the cell between them

        the winner has at least  b = max over classes of (min over the four neighbours),
        class c has at most      m_c = max over the four neighbours of its scores.

    A class with m_c < b in every cell wins nowhere, and its scores need not be upsampled. The labels are exactly those
    of all classes: what is left out could not win, and the others are interpolated by the same arithmetic. The idea of
    upsampling only what occurs is that of PP-MobileSeg (Tang et al. 2023, Valid Interpolate Module), which takes the
    classes that win at low resolution; a class that wins only in between would be lost there.

    Args:
        model: graph of a model file. It is returned unchanged unless it ends in a bilinear Resize to a larger size and
            ArgMax over at least 32 classes.
    """
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    argmax = _back(producers, "labels", ("Cast", "Identity"), "ArgMax")
    resize = _back(producers, argmax.input[0], ("Identity",), "Resize") if argmax is not None else None
    if argmax is None or resize is None or not _is_over_classes(argmax) or not _is_bilinear(resize):
        return model
    shape = _shape(model, resize.input[0])
    if shape is None or len(shape) != 4 or shape[1] < _MIN_CLASSES or min(shape[2:]) < 2:
        return model
    factors, sizes = _factors(resize, graph, shape)
    if factors is None or factors.shape != (4,) or factors[1] != 1 or factors[2:].min() <= 1:
        return model
    return _rewritten(model, resize, argmax, sizes)


def _rewritten(
    model: onnx.ModelProto, resize: onnx.NodeProto, argmax: onnx.NodeProto, sizes: Values | None
) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), _P + name)
        for name, value in {
            "frames_and_pixels": np.array([0, 2, 3]),
            "classes": np.array([1]),
            "flat": np.array([-1]),
            "margin": np.array(_MARGIN, np.float32),
        }.items()
    )
    scores = resize.input[0]
    nodes = [
        helper.make_node("MaxPool", [scores], [_P + "most"], kernel_shape=[2, 2], strides=[1, 1]),
        helper.make_node("Neg", [scores], [_P + "negative"]),
        helper.make_node("MaxPool", [_P + "negative"], [_P + "negative_least"], kernel_shape=[2, 2], strides=[1, 1]),
        helper.make_node("Neg", [_P + "negative_least"], [_P + "least"]),
        helper.make_node("ReduceMax", [_P + "least", _P + "classes"], [_P + "bound"], keepdims=1),
        helper.make_node("Abs", [_P + "bound"], [_P + "size"]),
        helper.make_node("Mul", [_P + "size", _P + "margin"], [_P + "slack"]),
        helper.make_node("Sub", [_P + "bound", _P + "slack"], [_P + "lower"]),
        helper.make_node("Sub", [_P + "most", _P + "lower"], [_P + "above"]),
        helper.make_node("ReduceMax", [_P + "above", _P + "frames_and_pixels"], [_P + "best"], keepdims=0),
        helper.make_node("GreaterOrEqual", [_P + "best", _P + "zero"], [_P + "can_win"]),
        helper.make_node("NonZero", [_P + "can_win"], [_P + "ids_2d"]),
        helper.make_node("Reshape", [_P + "ids_2d", _P + "flat"], [_P + "ids"]),
        helper.make_node("Gather", [scores, _P + "ids"], [_P + "scores"], axis=1),
    ]
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), _P + "zero"))
    upsample = onnx.NodeProto()
    upsample.CopyFrom(resize)
    upsample.name = _P + "resize"
    upsample.output[0] = _P + "upsampled"
    upsample.input[0] = _P + "scores"
    if sizes is not None:  # sizes name the number of classes, scales do not
        _resize_axes(upsample, sizes, graph)
    choose = helper.make_node("ArgMax", [_P + "upsampled"], [_P + "rank"], axis=1, keepdims=0)
    look_up = helper.make_node("Gather", [_P + "ids", _P + "rank"], list(argmax.output), axis=0)
    at = next(index for index, node in enumerate(graph.node) if argmax.output[0] in node.output)
    del graph.node[at]
    for offset, node in enumerate([*nodes, upsample, choose, look_up]):
        graph.node.insert(at + offset, node)
    _remove_unused(graph)
    return copy


def _factors(resize: onnx.NodeProto, graph: onnx.GraphProto, shape: list[int]) -> tuple[Values | None, Values | None]:
    """Return the factor of each axis, and the sizes if these are what the node names; None where unknown."""
    inputs = [*resize.input, "", "", ""]
    if inputs[2]:
        return _constant(graph, inputs[2]), None
    sizes = _constant(graph, inputs[3]) if inputs[3] else None
    if sizes is None or sizes.shape != (4,):
        return None, None
    return np.array([1, sizes[1] / shape[1], sizes[2] / shape[2], sizes[3] / shape[3]]), sizes


def _resize_axes(upsample: onnx.NodeProto, sizes: Values, graph: onnx.GraphProto) -> None:
    """Let Resize name the sizes of the image only (opset 18)."""
    graph.initializer.append(numpy_helper.from_array(np.asarray(sizes[2:], np.int64), _P + "image_size"))
    upsample.input[3] = _P + "image_size"
    upsample.attribute.append(helper.make_attribute("axes", [2, 3]))


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes without a reader, from the end."""
    outputs = {value.name for value in graph.output}
    while True:
        read = outputs | {name for node in graph.node for name in node.input}
        unused = [node for node in graph.node if not any(name in read for name in node.output)]
        if not unused:
            return
        for node in unused:
            graph.node.remove(node)


def _back(
    producers: dict[str, onnx.NodeProto], name: str, passing: tuple[str, ...], wanted: str
) -> onnx.NodeProto | None:
    """Return the node of type ``wanted`` that computes ``name``, behind nodes that change nothing."""
    node = producers.get(name)
    while node is not None and node.op_type in passing:
        node = producers.get(node.input[0])
    return node if node is not None and node.op_type == wanted else None


def _is_over_classes(argmax: onnx.NodeProto) -> bool:
    values = {attribute.name: attribute.i for attribute in argmax.attribute}
    return (values.get("axis", 0), values.get("keepdims", 1), values.get("select_last_index", 0)) == (1, 0, 0)


def _is_bilinear(resize: onnx.NodeProto) -> bool:
    values = {attribute.name: attribute for attribute in resize.attribute}
    plain = {"mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "extrapolation_value"}
    coordinates = values["coordinate_transformation_mode"].s if "coordinate_transformation_mode" in values else b""
    is_linear = "mode" in values and values["mode"].s == b"linear"
    is_known = coordinates in (b"", b"half_pixel", b"pytorch_half_pixel", b"align_corners")
    return is_linear and is_known and all(name in plain or not values[name].i for name in values)


def _constant(graph: onnx.GraphProto, name: str) -> Values | None:
    for tensor in graph.initializer:
        if tensor.name == name:
            return np.asarray(numpy_helper.to_array(tensor))
    for node in graph.node:
        if node.op_type == "Constant" and name in node.output:
            return next((np.asarray(numpy_helper.to_array(a.t)) for a in node.attribute if a.name == "value"), None)
    return None


def _shape(model: onnx.ModelProto, name: str) -> list[int] | None:
    """Return the shape of a float tensor, 0 where an axis is free; None for another tensor."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError):
        return None
    values = [*inferred.graph.value_info, *inferred.graph.input]
    found = next((value for value in values if value.name == name), None)
    if found is None or found.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        return None
    return [dim.dim_value for dim in found.type.tensor_type.shape.dim]
