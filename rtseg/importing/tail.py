"""Adds the end of a model file to a network: its outputs become labels, uint8 (N, H, W)."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from rtseg.importing.head import NodeBuilder
from rtseg.importing.normalize_graph import BATCH, prune
from rtseg.importing.plan import Head, Plan
from rtseg.importing.strip import strip_activation

__all__ = ["add_tail", "head_classes"]


def add_tail(model: onnx.ModelProto, plan: Plan, batch: int | None) -> list[str]:
    """Replace the outputs of ``model`` by ``labels``.

    Args:
        model: changed in place. No tensor of it may be called ``labels``.
        plan: the outputs to use, classes and threshold.
        batch: length of the batch, if the graph takes only this one.

    Returns:
        What was removed from the end of the graph, e.g. ``Softmax``.
    """
    graph = model.graph
    build = NodeBuilder("tail")
    removed = [_strip(graph, head) for head in plan.heads]
    labels = ""
    for index, (head, classes) in enumerate(zip(plan.heads, head_classes(plan), strict=True)):
        own = _labels_of(build, head, classes, plan, was_sigmoid=removed[index] == "Sigmoid")
        labels = own if not labels else _on_top(build, own, labels, first=classes[0][1])
    labels = build.node("Cast", labels, output="labels", to=TensorProto.UINT8)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("labels", TensorProto.UINT8, [batch or BATCH, *plan.frame_size]))
    graph.node.extend(build.nodes)
    graph.initializer.extend(build.weights)
    prune(graph)
    return [name for name in removed if name]


def head_classes(plan: Plan) -> list[list[tuple[int, int]]]:
    """Return for each head the channels that are kept: (channel, class ID in the model file).

    Channel 0 of every head but the first is its background, which is no class of its own and is left out here. For a
    head with a sigmoid, the background is channel 0 and the channels of the graph follow.
    """
    ids = {index: position for position, index in enumerate(plan.kept)}
    result, first = [], 0
    for number, head in enumerate(plan.heads):
        count = head.classes or len(plan.classes) - first
        start = 0 if number == 0 else 1
        pairs = [(channel, first + channel - start) for channel in range(start, count)]
        result.append([(channel, ids[index]) for channel, index in pairs if index in ids])
        first += count - start
    return result


def _strip(graph: onnx.GraphProto, head: Head) -> str:
    if head.kind == "scores":
        return strip_activation(graph, head.output, ("Softmax", "LogSoftmax"))
    return strip_activation(graph, head.output, ("Sigmoid",)) if head.kind == "sigmoid" else ""


def _labels_of(build: NodeBuilder, head: Head, classes: list[tuple[int, int]], plan: Plan, *, was_sigmoid: bool) -> str:
    """Return int64 (N, H, W): the position in ``classes`` for the first head; for others 0 is their background."""
    values = _as_channels_first(build, head)
    if head.kind == "labels":
        resized = _to_frame(build, values, head, plan, "nearest")
        return build.node("Cast", build.node("Squeeze", resized, build.constant([1], np.int64)), to=TensorProto.INT64)
    has_background = head is not plan.heads[0]
    if head.kind == "sigmoid":
        bound = plan.threshold
        if was_sigmoid or not head.is_probability:
            bound = math.log(bound / (1 - bound))
        return _above(build, head, values, plan, bound, [channel for channel, _ in classes])
    kept = ([0] if has_background else []) + [channel for channel, _ in classes]
    values = _select(build, values, kept, head.channels)
    values = _to_frame(build, values, head, plan)
    return build.node("ArgMax", values, axis=1, keepdims=0)


def _as_channels_first(build: NodeBuilder, head: Head) -> str:
    """Return float32 (N, C, h, w)."""
    values = head.output if head.is_float32 else build.node("Cast", head.output, to=TensorProto.FLOAT)
    if head.axis is None:
        return build.node("Unsqueeze", values, build.constant([1], np.int64))
    return build.node("Transpose", values, perm=[0, 3, 1, 2]) if head.axis == 3 else values


def _to_frame(build: NodeBuilder, values: str, head: Head, plan: Plan, mode: str = "linear") -> str:
    """Scale maps (N, C, h, w) to the size of the frames, without the bars of a letterbox."""
    if not any(plan.bars):
        return build.resize(values, head.size, plan.frame_size, mode)
    values = build.resize(values, head.size, plan.network_size, mode)
    top, left, bottom, right = plan.bars
    ends = [plan.network_size[0] - bottom, plan.network_size[1] - right]
    values = build.node("Slice", values, *(build.constant(part, np.int64) for part in ([top, left], ends, [2, 3])))
    return build.resize(values, plan.content_size or plan.network_size, plan.frame_size, mode)


def _above(build: NodeBuilder, head: Head, values: str, plan: Plan, bound: float, kept: list[int]) -> str:
    """Return the number of the largest channel that is above ``bound``, from 1; 0 where none is."""
    channels = [channel - 1 for channel in kept if channel > 0]
    values = _select(build, values, channels, head.channels)
    values = _to_frame(build, values, head, plan)
    if len(channels) == 1:
        above = build.node("Greater", values, build.constant(bound))
        squeezed = build.node("Squeeze", above, build.constant([1], np.int64))
        return build.node("Cast", squeezed, to=TensorProto.INT64)
    # The first of equal values wins, so a value that only reaches the bound is background.
    pads = build.constant([0, 1, 0, 0, 0, 0, 0, 0], np.int64)
    padded = build.node("Pad", values, pads, build.constant(bound))
    return build.node("ArgMax", padded, axis=1, keepdims=0)


def _select(build: NodeBuilder, values: str, kept: list[int], channels: int) -> str:
    if kept == list(range(channels)):
        return values
    if kept == list(range(kept[0], kept[-1] + 1)):
        bounds = (build.constant([bound], np.int64) for bound in (kept[0], kept[-1] + 1, 1))
        return build.node("Slice", values, *bounds)
    return build.node("Gather", values, build.constant(kept, np.int64), axis=1)


def _on_top(build: NodeBuilder, upper: str, lower: str, first: int) -> str:
    """Return the labels of a later head where it has no background, else those below; its IDs begin at ``first``."""
    zero, shift = build.constant(0, np.int64), build.constant(first - 1, np.int64)
    return build.node("Where", build.node("Greater", upper, zero), build.node("Add", upper, shift), lower)
