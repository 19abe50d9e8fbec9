"""Proves an import: the labels of the model file against those that numpy computes from the original's own outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from rtseg.frame import Image, Labels
from rtseg.importing.plan import LETTERBOX_GREY, Head, Plan, Size
from rtseg.importing.runtime import Session
from rtseg.importing.tail import head_classes
from rtseg.preprocess import resize
from rtseg.synthetic.street import Street
from rtseg.system.opencv import cv2

__all__ = ["MIN_AGREEMENT", "Original", "compare", "proof_images"]

MIN_AGREEMENT = 0.999
"""Least share of pixels on which the model file and the original must agree."""
_STREETS, _PATTERNS = 3, 3
_EPSILON = 1e-7


def proof_images(size: Size) -> Iterator[Image]:
    """Yield images, uint8 BGR (*size, 3): drawn streets, and blurred noise of several sizes.

    They need not look like what the network was made for: it is compared with itself.
    """
    for street in _streets():
        yield resize(street, size)
    random = np.random.default_rng(0)
    for index in range(_PATTERNS):
        small = random.integers(0, 256, (4 << index, 6 << index, 3), dtype=np.uint8)
        yield np.asarray(cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.uint8)


@cache
def _streets() -> tuple[Image, ...]:
    return tuple(Street((540, 960), seed=seed).render(3.0 * seed)[0] for seed in range(_STREETS))


def to_network(image: Image, plan: Plan) -> NDArray[Any]:
    """Return the input of the network for one frame, uint8 BGR (H, W, 3), as the definition says, without the graph."""
    network, normalization = plan.input, plan.normalization
    height, width = plan.content_size or plan.network_size
    values = image.astype(np.float32)
    if image.shape[:2] != (height, width):
        values = np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    top, left, bottom, right = plan.bars
    values = np.pad(values, ((top, bottom), (left, right), (0, 0)), constant_values=LETTERBOX_GREY)
    if network.channels == 1:
        values = values @ np.array([0.114, 0.587, 0.299], np.float32)[:, None]
    elif not normalization.bgr:
        values = values[..., ::-1]
    mean, std = (np.array(part[: network.channels]) for part in (normalization.mean, normalization.std))
    values = (values / normalization.scale - mean) / std
    batch = values[None] if network.channels_last else values.transpose(2, 0, 1)[None]
    kind = helper.tensor_dtype_to_np_dtype(network.kind)
    return np.ascontiguousarray(np.round(batch) if kind == np.uint8 else batch).astype(kind)


class Original:
    """The graph as it came, in ONNX Runtime."""

    def __init__(self, model: onnx.ModelProto, title: str) -> None:
        self._session = Session(model, title)

    def run(self, image: Image, plan: Plan) -> dict[str, NDArray[Any]]:
        """Return all outputs for one frame, uint8 BGR (H, W, 3)."""
        return self._session.run({plan.input.name: to_network(image, plan)})

    def labels(self, image: Image, plan: Plan) -> Labels:
        """Return the class IDs of one image, uint8 (*plan.frame_size), computed from the outputs by numpy."""
        outputs = self.run(image, plan)
        labels: NDArray[np.int64] | None = None
        for head, classes in zip(plan.heads, head_classes(plan), strict=True):
            own = _head_labels(outputs[head.output], head, classes, plan)
            labels = own if labels is None else np.where(own > 0, own + classes[0][1] - 1, labels)
        assert labels is not None
        return labels.astype(np.uint8)


def _head_labels(values: NDArray[Any], head: Head, classes: list[tuple[int, int]], plan: Plan) -> NDArray[np.int64]:
    """Return int64 (H, W): positions in ``classes`` for the first head, from 1 for later ones and for sigmoids."""
    maps = values[0] if head.axis is None else np.moveaxis(values[0], head.axis - 1, 0)
    if head.axis is None:
        maps = maps[None]
    if head.kind == "labels":
        return np.asarray(_to_frame(maps[:1].astype(np.float32), plan, cv2.INTER_NEAREST)[0], np.int64)
    maps = maps.astype(np.float32)
    if head.kind == "sigmoid":
        bound = float(np.log(plan.threshold / (1 - plan.threshold)))
        kept = [channel - 1 for channel, _ in classes if channel > 0]
        logits = _to_frame(_logit(maps[kept]) if head.is_probability else maps[kept], plan)
        return np.where(logits.max(0) > bound, logits.argmax(0) + 1, 0)
    first = [] if head is plan.heads[0] else [0]
    kept = first + [channel for channel, _ in classes]
    is_small = maps.shape[1:] != plan.frame_size
    # Of probabilities, the logarithms are the scores up to a constant of each pixel.
    scores = np.log(np.maximum(maps, np.finfo(np.float32).tiny)) if head.is_probability and is_small else maps
    return np.asarray(_to_frame(scores[kept], plan).argmax(0), np.int64)


def _logit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped = np.clip(values, _EPSILON, 1 - _EPSILON)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float32)


def _to_frame(maps: NDArray[np.float32], plan: Plan, mode: int = cv2.INTER_LINEAR) -> NDArray[np.float32]:
    """Scale maps (C, h, w) to the size of the frames, without the bars of a letterbox."""
    if not any(plan.bars):
        return _resized(maps, plan.frame_size, mode)
    top, left, bottom, right = plan.bars
    height, width = plan.network_size
    whole = _resized(maps, plan.network_size, mode)
    return _resized(whole[:, top : height - bottom, left : width - right], plan.frame_size, mode)


def _resized(maps: NDArray[np.float32], size: Size, mode: int) -> NDArray[np.float32]:
    if maps.shape[1:] == size:
        return maps
    height, width = size
    return np.stack([cv2.resize(each, (width, height), interpolation=mode) for each in maps])


@dataclass(frozen=True, slots=True)
class Agreement:
    """The result of a comparison."""

    share: float
    """Share of the pixels with the same label, in [0, 1]."""
    classes: int
    """How many classes the labels of the original contain."""


def compare(original: Original, model: onnx.ModelProto, plan: Plan, title: str) -> Agreement:
    """Label the proof images with the original and with the graph of the model file, both in ONNX Runtime.

    Raises:
        ModelError: ONNX Runtime cannot run the graph.
    """
    session = Session(model, title)
    equal = pixels = 0
    seen: set[int] = set()
    for image in proof_images(plan.frame_size):
        expected = original.labels(image, plan)
        labels = session.run({"frames": image[None]})["labels"][0]
        equal += int((labels == expected).sum())
        pixels += expected.size
        seen.update(np.unique(expected).tolist())
    return Agreement(equal / pixels, len(seen))
