"""Which parts of a quantised graph cost most: found by leaving one at a time in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rtseg.backends.base import Backend, BackendOptions
from rtseg.frame import Image, Labels
from rtseg.model_file.activation_ranges import Kept, Ranges
from rtseg.model_file.load import ModelFile
from rtseg.model_file.quantize import groups, quantize

__all__ = ["find_kept"]


def find_kept(
    model: ModelFile,
    ranges: Ranges,
    images: Sequence[Image],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Kept]:
    """Every group of nodes that gains something in float, the one that gains most first.

    The gain is measured as pixel agreement with the float graph: on a few images it tells parts apart that the mIoU,
    counted in whole points there, does not. Source of the search: Wu, Judd, Zhang, Isaev, Micikevicius, "Integer
    Quantization for Deep Learning Inference", arXiv 2004.09602, section 5, partial quantization, with one group left
    out at a time in place of one quantised at a time: what is looked for is what to take out of the whole.

    Args:
        model: fp32.
        ranges: of its file; what they keep in float stays so.
        images: uint8 (H, W, C) of ``spec.size``, as ``Prepare`` makes them.
        on_progress: called with how many groups are done, and of how many.

    Raises:
        BackendUnavailable: ONNX Runtime is not installed.
    """
    wanted = _labels(model, "fp32", images)
    before = _agreement(quantize(model, ranges), images, wanted)
    candidates = groups(model).values()
    found = []
    for done, nodes in enumerate(candidates, start=1):
        kept = Kept(nodes, 0.0)
        after = _agreement(quantize(model, replace(ranges, kept=(*ranges.kept, kept))), images, wanted)
        found.append(replace(kept, gain=round(100 * (after - before), 4)))
        on_progress(done, len(candidates))
    return sorted((kept for kept in found if kept.gain > 0), key=lambda kept: -kept.gain)


def _agreement(model: ModelFile, images: Sequence[Image], wanted: list[Labels]) -> float:
    pairs = zip(_labels(model, "int8", images), wanted, strict=True)
    return float(np.mean([(labels == others).mean() for labels, others in pairs]))


def _labels(model: ModelFile, precision: str, images: Sequence[Image]) -> list[Labels]:
    from rtseg.backends.openvino import OpenVinoBackend

    backend: Backend = OpenVinoBackend(model, BackendOptions(precision=precision, hint="latency"))
    with backend:
        return [backend.infer(image[None])[0].copy() for image in images]
