"""Ranks the nodes of a quantized graph by how much accuracy they lose, by keeping one group at a time in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rtseg.backends import open_backend
from rtseg.frame import Image, Labels
from rtseg.model_file.activation_ranges import FloatGroup, Ranges
from rtseg.model_file.load import ModelFile
from rtseg.model_file.quantize import quantizable_groups, quantize

__all__ = ["rank_float_groups"]


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


def _agreement(model: ModelFile, images: Sequence[Image], float_labels: list[Labels]) -> float:
    pairs = zip(_labels(model, "int8", images), float_labels, strict=True)
    return float(np.mean([(labels == expected).mean() for labels, expected in pairs]))


def _labels(model: ModelFile, precision: str, images: Sequence[Image]) -> list[Labels]:
    with open_backend("openvino", model, precision=precision, hint="latency") as backend:
        return [backend.infer(image[None])[0].copy() for image in images]
