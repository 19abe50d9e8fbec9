"""A second output of a model file: how much more likely the label is than the next class.

``margin``, uint8 (N, h, w): 255 times the difference of the two highest probabilities, at the size of the logits, which
is smaller than the image. 0: two classes are equally likely. Source: Scheffer, Decomain, Wrobel, "Active Hidden Markov
Models for Information Extraction", IDA 2001, section 3, for the margin as a measure of certainty.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rtseg.errors import ModelError

__all__ = ["MARGIN", "add_margin", "remove_margin"]

MARGIN = "margin"
_PASSED = ("Cast", "Identity")


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
    constants = {
        "two": np.array([2]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "end": np.array([2]),
        "scale": np.array(255.0, np.float32),
        "half": np.array(0.5, np.float32),
        "shape": np.array([-1, height, width]),
    }
    copy.graph.initializer.extend(numpy_helper.from_array(value, f"margin.{name}") for name, value in constants.items())
    copy.graph.node.extend(
        helper.make_node(kind, inputs, [output], output, **attributes)
        for kind, inputs, output, attributes in (
            ("Cast", [scores], "margin.scores", {"to": TensorProto.FLOAT}),
            ("Softmax", ["margin.scores"], "margin.probabilities", {"axis": 1}),
        )
    )
    copy.graph.node.extend(
        [
            helper.make_node(
                "TopK", ["margin.probabilities", "margin.two"], ["margin.top", "margin.ids"], "margin.top", axis=1
            ),
            helper.make_node("Slice", ["margin.top", "margin.zero", "margin.one", "margin.one"], ["margin.first"]),
            helper.make_node("Slice", ["margin.top", "margin.one", "margin.end", "margin.one"], ["margin.second"]),
            helper.make_node("Sub", ["margin.first", "margin.second"], ["margin.difference"]),
            helper.make_node("Mul", ["margin.difference", "margin.scale"], ["margin.scaled"]),
            helper.make_node("Add", ["margin.scaled", "margin.half"], ["margin.rounded"]),
            helper.make_node("Reshape", ["margin.rounded", "margin.shape"], ["margin.planar"]),
            helper.make_node("Cast", ["margin.planar"], [MARGIN], to=TensorProto.UINT8),
        ]
    )
    batch = copy.graph.input[0].type.tensor_type.shape.dim[0]
    first = batch.dim_param or batch.dim_value or "N"
    copy.graph.output.append(helper.make_tensor_value_info(MARGIN, TensorProto.UINT8, [first, height, width]))
    return copy


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
