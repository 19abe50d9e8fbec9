"""Finds the input of a foreign network, and says what a graph is that is no semantic segmentation of images."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from rtseg.errors import ModelError
from rtseg.importing.plan import Fact, NetworkInput
from rtseg.model_file.foreign import describe_value, dimensions, graph_inputs, producer_of

__all__ = ["find_input"]

_KINDS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)
_DETECTION = ("NonMaxSuppression", "RoiAlign", "MaxRoiPool")
_COLOURS = (1, 3)


def find_input(model: onnx.ModelProto, title: str) -> tuple[NetworkInput, list[Fact]]:
    """Return the input of a network for images, and what was found out about it.

    Raises:
        ModelError: the graph has several inputs, is for volumes or clips, detects objects, or takes no colour images.
    """
    detectors = sorted({node.op_type for node in model.graph.node} & {*_DETECTION})
    if detectors:
        raise ModelError(
            f"{title} is a model for object detection or instance segmentation (it has {', '.join(detectors)}): "
            "rtseg runs semantic segmentation, one class for each pixel"
        )
    inputs = graph_inputs(model)
    shown = "; ".join(map(describe_value, inputs[:4])) or "none"
    if len(inputs) != 1:
        raise ModelError(f"{title} has {len(inputs)} inputs ({shown}): rtseg feeds one image, export it with one input")
    (value,) = inputs
    shape = dimensions(value)
    if shape is not None and len(shape) == 5:
        raise ModelError(f"{title} is a model for 3-D volumes or clips ({shown}): rtseg feeds one image")
    kind = value.type.tensor_type.elem_type
    if kind not in _KINDS or shape is None or len(shape) != 4:
        raise ModelError(f"{title} takes no batch of images, float or uint8 (N, C, H, W) or (N, H, W, C): {shown}")
    channels_last, reason, is_guess = _find_layout(shape, producer_of(model), f"{title} ({shown})")
    channels = shape[3] if channels_last else shape[1]
    sides = shape[1:3] if channels_last else shape[2:4]
    height, width = (side if isinstance(side, int) else None for side in sides)
    found = NetworkInput(
        value.name,
        kind,
        channels if isinstance(channels, int) else 3,
        channels_last,
        (height, width),
        isinstance(shape[0], int),
    )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ModelError(f"{title} takes batches of {shape[0]} images only ({shown}): export it with batch 1")
    layout = "NHWC" if channels_last else "NCHW"
    return found, [Fact("layout", layout, reason, is_guess)]


def _find_layout(shape: tuple[int | str, ...], producer: str, shown: str) -> tuple[bool, str, bool]:
    """Return whether the channels are last, the reason, and whether it is a guess."""
    first, last = shape[1] in _COLOURS, shape[3] in _COLOURS
    text = f"shape ({', '.join(map(str, shape))})"
    if first != last:
        return last, text, False
    if not first and any(isinstance(shape[axis], int) for axis in (1, 3)):
        raise ModelError(f"{shown} takes images that are neither colour nor grey: rtseg feeds 3 channels, or 1 of grey")
    from_tensorflow = "tf" in producer.lower() or "keras" in producer.lower()
    return from_tensorflow, f"{text} is not fixed; exported by {producer}", True
