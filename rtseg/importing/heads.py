"""Finds out what the outputs of a foreign network mean, from their shapes, types and values on a few images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from rtseg.errors import ModelError, OptionError
from rtseg.importing.options import ImportOptions
from rtseg.importing.plan import Fact, Head, NetworkInput, Size
from rtseg.importing.strip import ends_in

__all__ = ["choose_heads"]

Values = dict[str, NDArray[Any]]

_MAIN = ("out", "logits", "output", "main", "seg", "mask", "labels")
"""Names of main outputs, in the order of preference."""
_AUXILIARY = ("aux", "deep", "loss", "edge", "boundary")
"""Parts of the names of outputs that are for training only."""
_MAX_CLASSES = 255
_ASPECT_TOLERANCE = 0.15


def choose_heads(
    model: onnx.ModelProto,
    network: NetworkInput,
    size: Size,
    samples: list[Values],
    opened: dict[str, tuple[str, int]],
    options: ImportOptions,
    title: str,
) -> tuple[tuple[Head, ...], list[Fact]]:
    """Return the outputs to use, in order, and what was found out about them.

    Args:
        model: the graph.
        network: its input.
        size: (H, W) that the network got.
        samples: all outputs, for a few images.
        opened: see ``expose_scores``.
        options: outputs that the user wants, the main output by default; and the threshold: if it is given, channels
            without a sigmoid are independent of each other too.
        title: what messages call the model.

    Raises:
        OptionError: an output of that name does not exist.
        ModelError: no output holds a class for each pixel, or several do and none is the main one.
    """
    names = options.output_name
    added = {scores for scores, _ in opened.values()}
    known = [value.name for value in model.graph.output if value.name not in added]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise OptionError(f"{title} has no output {unknown[0]!r}; it has {', '.join(known)}")
    heads: dict[str, Head] = {}
    problems: list[str] = []
    for name in names or known:
        try:
            heads[name] = _describe_output(model, name, size, samples, opened, options, network.channels_last)
        except ModelError as error:
            problems.append(f"{name} {error}")
    if (names and problems) or not heads:
        raise ModelError(f"{title}: {_what_it_is(samples[0], problems)}")
    chosen, reason = (names, "--output-name") if names else _main_output(heads, title)
    facts = [Fact("output", ", ".join(chosen), reason)]
    facts += [Fact(f"{name} holds", *_meaning(model, heads[name], heads[name].output in added)) for name in chosen]
    return tuple(heads[name] for name in chosen), facts


def _what_it_is(sample: Values, problems: list[str]) -> str:
    shapes = [value.shape for value in sample.values()]
    text = "; ".join(problems[:3])
    if any(len(shape) == 3 and min(shape[1:]) > 4 and max(shape[1:]) > 300 for shape in shapes):
        kind = "instance segmentation" if any(len(shape) == 4 for shape in shapes) else "object detection"
        return f"it is a model for {kind} ({text}): rtseg runs semantic segmentation, one class for each pixel"
    if all(len(shape) <= 2 for shape in shapes):
        return f"it has no spatial output, as a model for classification ({text}): rtseg needs a class for each pixel"
    return f"no output holds a class for each pixel ({text}): name one with --output-name"


def _describe_output(
    model: onnx.ModelProto,
    name: str,
    size: Size,
    samples: list[Values],
    opened: dict[str, tuple[str, int]],
    options: ImportOptions,
    channels_last: bool,
) -> Head:
    """Return the head of an output: that of the scores behind class IDs, where they are maps too."""
    if name in opened:
        scores, axis = opened[name]
        try:
            head = _describe_head(model, scores, size, samples, None, channels_last=axis in (3, -1))
        except ModelError:
            pass
        else:
            if head.axis == axis % 4 and head.channels > 1:
                return replace(head, kind="scores")
    return _describe_head(model, name, size, samples, options.threshold, channels_last)


def _describe_head(
    model: onnx.ModelProto,
    name: str,
    size: Size,
    samples: list[Values],
    threshold: float | None,
    channels_last: bool,
) -> Head:
    values = np.stack([sample[name] for sample in samples])[:, 0]  # (samples, C, h, w) and the like
    shape = values.shape[1:]
    if not np.isfinite(values).all():
        raise ModelError("is NaN or infinite: check the weights, and the input range")
    axis = _channel_axis(shape, size, channels_last)
    height, width = (side for index, side in enumerate(shape) if axis is None or index != axis - 1)
    channels = 1 if axis is None else shape[axis - 1]
    if channels > _MAX_CLASSES:
        raise ModelError(f"has {channels} channels, and labels of 8 bits name at most {_MAX_CLASSES} classes")
    if channels == 1 and _are_labels(values):
        return Head(name, "labels", 0, axis, (height, width), is_float32=False)
    last = ends_in(model.graph, name, ("Sigmoid", "Softmax", "LogSoftmax"))
    in_range = bool(values.min() >= 0 and values.max() <= 1)
    is_sigmoid = channels == 1 or last == "Sigmoid" or threshold is not None
    kind: Literal["sigmoid", "scores"] = "sigmoid" if is_sigmoid else "scores"
    return Head(name, kind, channels, axis, (height, width), in_range, values.dtype == np.float32)


def _channel_axis(shape: tuple[int, ...], size: Size, channels_last: bool) -> int | None:
    """Return which dimension of the output holds the channels, with the batch as 0; None if none does."""
    if len(shape) == 2 and _has_aspect(shape[0], shape[1], size):
        return None
    if len(shape) != 3:
        raise ModelError(f"has the shape {(1, *shape)}, which is no map of classes")
    fits = {1: _has_aspect(shape[1], shape[2], size), 3: _has_aspect(shape[0], shape[1], size)}
    if fits[1] and fits[3]:
        return 3 if channels_last else 1
    if not (fits[1] or fits[3]):
        raise ModelError(f"has the shape {(1, *shape)}, which has not the proportions of the input {size}")
    return 1 if fits[1] else 3


def _has_aspect(height: int, width: int, size: Size) -> bool:
    """Return whether a map may cover an image of ``size``: with the same ratio of the sides, up to rounding."""
    if min(height, width) < 2:
        return False
    ratio = (height / width) / (size[0] / size[1])
    tolerance = max(_ASPECT_TOLERANCE, 1.5 / min(height, width))
    return 1 - tolerance < ratio < 1 + tolerance


def _are_labels(values: NDArray[Any]) -> bool:
    """Return whether values are class IDs: whole numbers that are not negative, with more than one channel's worth."""
    if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
        return True
    return bool((values == np.round(values)).all() and values.min() >= 0 and values.max() > 1)


def _main_output(heads: dict[str, Head], title: str) -> tuple[tuple[str, ...], str]:
    """Return the name of the main output and the reason."""
    if len(heads) == 1:
        return tuple(heads), "the only one with a class for each pixel"
    candidates = {name: head for name, head in heads.items() if not any(part in name.lower() for part in _AUXILIARY)}
    for main in _MAIN:
        if any(name.lower() == main for name in candidates):
            return (next(name for name in candidates if name.lower() == main),), "its name"
    if len(candidates) == 1:
        return tuple(candidates), "the others are auxiliary by their names"
    first = next(iter(candidates.values()), None)
    largest = max((head.size for head in candidates.values()), default=(0, 0))
    same = len({head.classes for head in candidates.values()}) == 1
    # Two heads of two classes are two tasks, such as drivable area and lanes.
    if first is not None and same and first.classes > 2 and first.size == largest:
        return (next(iter(candidates)),), "the first; the others have the same classes"
    shown = ", ".join(f"{name} ({head.classes or 'some'} classes)" for name, head in heads.items())
    raise ModelError(
        f"{title} has several outputs: {shown}: choose with --output-name NAME, or NAME,NAME to draw the later on top"
    )


def _meaning(model: onnx.ModelProto, head: Head, was_argmax: bool) -> tuple[str, str]:
    height, width = head.size
    last = ends_in(model.graph, head.output, ("Sigmoid", "Softmax", "LogSoftmax", "ArgMax"))
    where = f"at {height}x{width}" + (", channels last" if head.axis == 3 else "")
    if head.kind == "labels":
        return f"class IDs {where}", "argmax is in the graph" if last == "ArgMax" else "whole numbers"
    if head.kind == "sigmoid":
        kind = "probability" if head.is_probability else "logit"
        count = "one class" if head.channels == 1 else f"each of {head.channels} classes"
        reason = f"the graph ends in {last}" if last else "values in [0, 1]" if head.is_probability else "no sigmoid"
        return f"{kind} of {count} {where}", reason
    if was_argmax:
        return f"class IDs of {head.channels} classes {where}", "the graph ends in ArgMax; its scores are used"
    reason = f"the graph ends in {last}" if last else "the largest channel wins"
    return f"scores of {head.channels} classes {where}", reason
