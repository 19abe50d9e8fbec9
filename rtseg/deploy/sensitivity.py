"""Finds the nodes of a quantized graph that should stay in float: those that lose accuracy, or are computed wrongly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rtseg.backends import open_backend
from rtseg.frame import Image, Labels
from rtseg.model_file.activation_ranges import FloatGroup, Ranges
from rtseg.model_file.emulate_int8 import emulate_int8
from rtseg.model_file.load import ModelFile
from rtseg.model_file.quantize import quantizable_groups, quantize

__all__ = ["find_wrong_group", "rank_float_groups"]


def rank_float_groups(
    model: ModelFile,
    ranges: Ranges,
    images: Sequence[Image],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[FloatGroup]:
    """Return the groups of nodes that gain accuracy in float, best first.

    The gain is measured as pixel agreement with the float graph. On a few images it is more sensitive than the mIoU.
    Source: Wu, Judd, Zhang, Isaev, Micikevicius, "Integer Quantization for Deep Learning Inference", arXiv 2004.09602,
    section 5, partial quantization. The paper quantizes one layer at a time; here one group at a time is kept in float,
    because the aim is to find which groups to exclude from the quantized graph.

    Args:
        model: fp32.
        ranges: of its file. Nodes that they keep in float stay in float.
        images: uint8 (H, W, C) of ``spec.size``, as ``Prepare`` returns them.
        on_progress: called with the number of groups done, and the total.

    Raises:
        BackendUnavailable: ONNX Runtime is not installed.
    """
    float_labels = _labels(model, "fp32", images)
    before = _agreement(quantize(model, ranges), images, float_labels)
    candidates = quantizable_groups(model).values()
    groups = []
    for done, nodes in enumerate(candidates, start=1):
        group = FloatGroup(nodes, 0.0)
        after = _agreement(quantize(model, replace(ranges, kept=(*ranges.kept, group))), images, float_labels)
        groups.append(replace(group, gain=round(100 * (after - before), 4)))
        on_progress(done, len(candidates))
    return sorted((group for group in groups if group.gain > 0), key=lambda group: -group.gain)


def find_wrong_group(
    model: ModelFile,
    ranges: Ranges,
    images: Sequence[Image],
    min_agreement: float,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> FloatGroup | None:
    """Return a group of nodes whose int8 arithmetic in OpenVINO is not that of the graph on this CPU.

    The groups are kept in float from the first on, and the shortest such beginning that makes the labels agree with
    exact arithmetic is found by bisection: its last group is a wrong one.

    Args:
        model: fp32.
        ranges: of its file. Nodes that they keep in float stay in float.
        images: uint8 (H, W, C) of ``spec.size``, as ``Prepare`` returns them.
        min_agreement: least share of the pixels that must agree, in [0, 1].
        on_progress: called with the number of graphs compared, and about how many there are.

    Returns:
        The group, with the gain in pixel agreement with exact arithmetic; None if there is none to keep in float.
    """
    groups = [nodes for nodes in quantizable_groups(model).values() if not ranges.kept_nodes.issuperset(nodes)]
    total, done = len(groups).bit_length(), 0
    # With the first ``low`` groups in float the labels disagree, with the first ``high`` they agree.
    low, high = 0, len(groups)
    shares = {0: _exactness(model, ranges, (), images), len(groups): 1.0}
    if not groups or shares[0] >= min_agreement:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        shares[middle] = _exactness(model, ranges, groups[:middle], images)
        low, high = (low, middle) if shares[middle] >= min_agreement else (middle, high)
        done += 1
        on_progress(done, max(done, total))
    return FloatGroup(groups[high - 1], round(100 * (shares[high] - shares[low]), 4))


def _exactness(model: ModelFile, ranges: Ranges, groups: Sequence[tuple[str, ...]], images: Sequence[Image]) -> float:
    """Return the share of pixels that agree with exact arithmetic if ``groups`` are in float too."""
    kept = tuple(FloatGroup(nodes, 0.0) for nodes in groups)
    quantized = quantize(model, replace(ranges, kept=(*ranges.kept, *kept)))
    return _agreement(quantized, images, _labels(emulate_int8(quantized), "fp32", images))


def _agreement(model: ModelFile, images: Sequence[Image], float_labels: list[Labels]) -> float:
    pairs = zip(_labels(model, "int8", images), float_labels, strict=True)
    return float(np.mean([(labels == expected).mean() for labels, expected in pairs]))


def _labels(model: ModelFile, precision: str, images: Sequence[Image]) -> list[Labels]:
    with open_backend("openvino", model, precision=precision, hint="latency") as backend:
        return [backend.infer(image[None])[0].copy() for image in images]
