"""A second output of a model file: how much more likely the label is than the next class.

``margin``, uint8 (N, h, w): 255 times the difference of the two highest probabilities, at the size of the logits, which
is smaller than the image. 0: two classes are equally likely. Source: Scheffer, Decomain, Wrobel, "Active Hidden Markov
Models for Information Extraction", IDA 2001, section 3, for the margin as a measure of certainty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rtseg.errors import ModelError

__all__ = ["MARGIN", "add_margin", "remove_margin"]

MARGIN = "margin"
_PASSED = ("Cast", "Identity")
_CONSTANTS = {"zero": 0.0, "one": 1.0, "scale": 255.0, "half": 0.5}
_AXES_AS_INPUT = {"ReduceSum": 13, "ReduceMax": 18}
"""Operator -> the first opset in which its axes are an input."""


def add_margin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the graph of a model file with the output ``margin``.

    Raises:
        ModelError: the labels are not the highest of two or more scores, or the size of the scores is not known.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    scores = _find_scores(copy.graph)
    classes, height, width = _shape(copy, scores)
    if classes < 2:
        raise ModelError(f"{model.graph.name} has one class: its labels are always sure")
    shape, channels = np.array([-1, height, width]), np.array([1])
    constants = {name: np.float32(value) for name, value in _CONSTANTS.items()} | {"shape": shape, "axis": channels}
    copy.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), f"margin.{name}") for name, value in constants.items()
    )
    opset = next(each.version for each in copy.opset_import if each.domain in ("", "ai.onnx"))
    copy.graph.node.extend(_margin_nodes(scores, opset))
    batch = copy.graph.input[0].type.tensor_type.shape.dim[0]
    first = batch.dim_param or batch.dim_value or "N"
    copy.graph.output.append(helper.make_tensor_value_info(MARGIN, TensorProto.UINT8, [first, height, width]))
    return copy


def _margin_nodes(scores: str, opset: int) -> Iterator[onnx.NodeProto]:
    """With e = exp(scores - highest), the highest probability is 1 / sum(e), the next one its e as a share of sum(e).

    Not by TopK, which takes longer than all of this.
    """
    steps: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        ("Cast", "scores", "scores", {"to": TensorProto.FLOAT}),
        ("ReduceMax", "scores axis", "highest", {}),
        ("Sub", "scores highest", "below", {}),
        ("Exp", "below", "e", {}),
        ("ReduceSum", "e axis", "sum", {}),
        ("Equal", "below zero", "is_highest", {}),
        ("Where", "is_highest zero e", "others", {}),
        ("ReduceMax", "others axis", "next", {}),
        # Several classes may have the highest score: then the next one is as high.
        ("Cast", "is_highest", "ones", {"to": TensorProto.FLOAT}),
        ("ReduceSum", "ones axis", "count", {}),
        ("Sub", "count one", "more", {}),
        ("Min", "more one", "tied", {}),
        ("Max", "next tied", "second", {}),
        ("Sub", "one second", "difference", {}),
        ("Div", "difference sum", "share", {}),
        ("Mul", "share scale", "scaled", {}),
        ("Add", "scaled half", "rounded", {}),
        ("Reshape", "rounded shape", "planar", {}),
        ("Cast", "planar", "", {"to": TensorProto.UINT8}),
    )
    for position, (kind, inputs, output, attributes) in enumerate(steps):
        names = [f"margin.{name}" for name in inputs.split()] if position else [scores]
        if opset < _AXES_AS_INPUT.get(kind, 0):
            names, attributes = names[:1], {"axes": [1]}
        yield helper.make_node(kind, names, [f"margin.{output}" if output else MARGIN], **attributes)


def remove_margin(model: onnx.ModelProto) -> None:
    """Remove the output ``margin`` and the nodes that only it needs, if there are any."""
    graph = model.graph
    outputs = [value for value in graph.output if value.name != MARGIN]
    if len(outputs) == len(graph.output):
        return
    del graph.output[:]
    graph.output.extend(outputs)
    needed = {value.name for value in outputs}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    kept = nodes[::-1]
    del graph.node[:]
    graph.node.extend(kept)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _find_scores(graph: onnx.GraphProto) -> str:
    """Return the tensor with the score of each class, before it is upsampled."""
    producers = {name: node for node in graph.node for name in node.output}
    node = producers.get("labels")
    while node is not None and node.op_type in _PASSED:
        node = producers.get(node.input[0])
    if node is None or node.op_type != "ArgMax" or {a.name: a.i for a in node.attribute}.get("axis", 0) != 1:
        raise ModelError(f"{graph.name}: the labels are not the highest of scores: it can have no margin")
    scores: str = node.input[0]
    before = producers.get(scores)
    if before is not None and before.op_type == "Resize":
        scores = before.input[0]
    return scores


def _shape(model: onnx.ModelProto, name: str) -> tuple[int, int, int]:
    """Return (classes, h, w) of the scores."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        if value.name == name:
            dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            if len(dims) == 4 and all(dims[1:]):
                return dims[1], dims[2], dims[3]
    raise ModelError(f"{model.graph.name}: the size of the scores is not known: it can have no margin")
