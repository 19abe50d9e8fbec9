"""Adds the beginning of a model file to a network: frames, uint8 (N, H, W, 3) BGR, become its input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rtseg.importing.normalize_graph import BATCH
from rtseg.importing.plan import LETTERBOX_GREY, Plan

__all__ = ["NodeBuilder", "add_head"]

_LUMA_BGR = (0.114, 0.587, 0.299)
"""Weights of B, G and R for grey (ITU-R BT.601), as in OpenCV."""


@dataclass
class NodeBuilder:
    """Appends nodes, each of which has one output."""

    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """Add a weight and return its name."""
        name = f"{self.prefix}/constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = output or f"{self.prefix}/{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def resize(self, tensor: str, size: tuple[int, int], target: tuple[int, int], mode: str = "linear") -> str:
        """Scale (N, C, *size) to (N, C, *target), bilinear without aligned corners or by nearest neighbour."""
        if size == target:
            return tensor
        settings = {"mode": mode, "coordinate_transformation_mode": "half_pixel"}
        if mode == "nearest":
            settings |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if all(to % of == 0 for to, of in zip(target, size, strict=True)):
            factors = [to // of for to, of in zip(target, size, strict=True)]
            return self.node("Resize", tensor, "", self.constant([1, 1, *factors]), **settings)
        shape = self.node("Shape", tensor)
        head = self.node("Slice", shape, *(self.constant(part, np.int64) for part in ([0], [2])))
        sizes = self.node("Concat", head, self.constant(target, np.int64), axis=0)
        return self.node("Resize", tensor, "", "", sizes, **settings)


def add_head(model: onnx.ModelProto, plan: Plan, batch: int | None) -> None:
    """Replace the input of ``model`` by ``frames``.

    Args:
        model: changed in place. No tensor of it may be called ``frames``.
        plan: size, order of the channels and normalization.
        batch: length of the batch, if the graph takes only this one.
    """
    graph, network = model.graph, plan.input
    build = NodeBuilder("head")
    # Cast first: TensorRT rejects a permutation of uint8.
    values = build.node("Cast", "frames", to=TensorProto.FLOAT)
    values = build.node("Transpose", values, perm=[0, 3, 1, 2])
    values = _colours(build, values, plan)
    values = build.resize(values, plan.frame_size, plan.content_size or plan.network_size)
    if any(plan.bars):
        top, left, bottom, right = plan.bars
        pads = build.constant([0, 0, top, left, 0, 0, bottom, right], np.int64)
        values = build.node("Pad", values, pads, build.constant(LETTERBOX_GREY))
    values = _normalize(build, values, plan)
    if network.channels_last:
        values = build.node("Transpose", values, perm=[0, 2, 3, 1])
    if network.kind != TensorProto.FLOAT:
        values = build.node("Cast", values, to=network.kind)
    build.node("Identity", values, output=network.name)
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info("frames", TensorProto.UINT8, [batch or BATCH, *plan.frame_size, 3])
    )
    _remove_last_identity(build, graph)
    nodes = [*build.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(build.weights)


def _colours(build: NodeBuilder, values: str, plan: Plan) -> str:
    if plan.input.channels == 1:
        luma = build.constant(np.reshape(_LUMA_BGR, (1, 3, 1, 1)))
        return build.node("Conv", values, luma, kernel_shape=[1, 1])
    if plan.normalization.bgr:
        return values
    # Start, end, axis and step: from the last channel to the first.
    bounds = (build.constant([bound], np.int64) for bound in (-1, -(2**31), 1, -1))
    return build.node("Slice", values, *bounds)


def _normalize(build: NodeBuilder, values: str, plan: Plan) -> str:
    given, channels = plan.normalization, plan.input.channels
    mean, std = (np.array(part[:channels], np.float64).reshape(1, -1, 1, 1) for part in (given.mean, given.std))
    factor, offset = 1 / (given.scale * std), -mean / std
    if (factor != 1).any():
        values = build.node("Mul", values, build.constant(factor))
    if offset.any():
        values = build.node("Add", values, build.constant(offset))
    return values


def _remove_last_identity(build: NodeBuilder, graph: onnx.GraphProto) -> None:
    """Let the network read what comes before the last node, an Identity."""
    identity = build.nodes.pop()
    for node in graph.node:
        node.input[:] = [identity.input[0] if name == identity.output[0] else name for name in node.input]
    # A subgraph may read the input of the network too.
    if any(identity.output[0] in inner.input for node in graph.node for a in node.attribute for inner in a.g.node):
        build.nodes.append(identity)
