"""From the image of a source to the input of a model: resize, then the steps that the model's metadata names.

Plain functions on arrays, the same in training, evaluation, calibration and streaming.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import ModelError, OptionError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import ImageError, decode_image, to_bgr
from rtseg.model_file.spec import ModelSpec
from rtseg.system.opencv import cv2

__all__ = [
    "NEUTRAL",
    "Prepare",
    "clahe",
    "override_steps",
    "parse_steps",
    "preprocess_facts",
    "preprocess_notice",
    "resize",
    "resize_labels",
    "subtract_background",
]

NEUTRAL = 128
"""Value of a pixel that equals its background."""

_KNOWN = "clahe:clip=2,tiles=8 and background:FILE, after resize"
_STEP = re.compile(r"(resize|background|clahe)(:|$)")


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Scale to ``size`` = (H, W) without keeping the aspect ratio; every channel alike.

    Area averaging where the image shrinks to half or less in both directions (bilinear would skip pixels there),
    else bilinear. An image that has the size already is returned as it is, not copied.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] >= 2 * height and image.shape[1] >= 2 * width
    out = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(out, dtype=np.uint8).reshape(height, width, -1)  # of one channel OpenCV drops the axis


def resize_labels(labels: Labels, size: tuple[int, int]) -> Labels:
    """Scale class ids to ``size`` = (H, W) by nearest neighbour."""
    height, width = size
    if labels.shape == (height, width):
        return labels
    # The "exact" kind samples at pixel centres; plain INTER_NEAREST is shifted by up to half a pixel.
    out = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(out, dtype=np.uint8)


def clahe(image: Image, *, clip: float = 2.0, tiles: int = 8) -> Image:
    """Contrast-limited adaptive histogram equalisation of the lightness; colours keep their hue.

    Grey, (H, W, 1), becomes BGR. A plane beside the colours, or beside grey, stays as it is: what its values mean may
    hang on their height.

    Args:
        image: uint8 (H, W, C), see ``rtseg.frame.Image``.
        clip: contrast limit, as a multiple of a flat histogram's bin.
        tiles: grid of tiles x tiles regions.

    Source: Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
    """
    equalise = cv2.createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles))
    if image.shape[2] == 2:
        grey, other = cv2.split(image)
        return np.asarray(cv2.merge((equalise.apply(grey), other)), dtype=np.uint8)
    if image.shape[2] == 1:
        to_lightness, of_lightness = _grey_lightness()
        return np.asarray(cv2.applyColorMap(equalise.apply(cv2.LUT(image, to_lightness)), of_lightness), dtype=np.uint8)
    lightness, a, b = cv2.split(cv2.cvtColor(to_bgr(image), cv2.COLOR_BGR2LAB))
    colours = cv2.cvtColor(cv2.merge((equalise.apply(lightness), a, b)), cv2.COLOR_LAB2BGR)
    if image.shape[2] == 4:
        colours = cv2.merge((*cv2.split(colours), image[..., 3]))
    return np.asarray(colours, dtype=np.uint8)


@cache
def _grey_lightness() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Of each grey value its lightness, uint8 (256,), and of each lightness of a grey pixel its BGR, uint8 (256, 1, 3).

    A look-up is several times faster than turning three equal planes to LAB and back, and gives the same bytes.
    """
    values = np.arange(256, dtype=np.uint8).reshape(256, 1)
    lab = cv2.cvtColor(cv2.merge((values, values, values)), cv2.COLOR_BGR2LAB)
    lightness, a, b = cv2.split(lab)  # a and b of every grey are the same
    bgr = cv2.cvtColor(cv2.merge((values, a, b)), cv2.COLOR_LAB2BGR)
    return np.asarray(lightness, dtype=np.uint8).ravel(), np.asarray(bgr, dtype=np.uint8)


def subtract_background(image: Image, background: Image) -> Image:
    """``image - background + NEUTRAL``, clipped to 0..255: what differs from the still scene.

    Args:
        image: uint8 (H, W, C), see ``rtseg.frame.Image``; the difference is taken of every channel.
        background: of the same height and width; of the same channels, or one of both is grey and the other BGR.
    """
    if image.shape[2] != background.shape[2]:
        image, background = to_bgr(image), to_bgr(background)
    difference = cv2.addWeighted(image, 1.0, background, -1.0, NEUTRAL)
    return np.asarray(difference, dtype=np.uint8).reshape(image.shape)  # of one channel OpenCV drops the axis


class Prepare:
    """Makes model input of images of any size: ``spec.size``, then each step of ``spec.preprocess``.

    Steps are texts: ``clahe`` or ``clahe:clip=2,tiles=8``, and ``background:FILE``; ``resize`` may stand first.

    Raises:
        ModelError: a step is not known or its arguments are wrong, or ``resize`` is not the first.
        OptionError: a background image cannot be read, or has no plane beside the colours though the model wants it.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.size = spec.size
        self._steps = [_parse_step(text, spec) for text in _after_resize(spec.preprocess)]

    def __call__(self, image: Image) -> Image:
        """uint8 (H, W, C) of any size -> uint8 (*spec.size, C), C as ``spec.channels``.

        Grey, (H, W, 1), becomes BGR in the end: the same bytes as three equal planes give.
        """
        out = resize(image, self.size)
        for step in self._steps:
            out = step(out)
        return to_bgr(out) if out.shape[2] == 1 else out


def parse_steps(text: str) -> tuple[str, ...] | None:
    """The steps of a list such as ``resize,background:FILE,clahe:clip=2,tiles=8``; None for an empty one.

    A comma followed by no known step belongs to the step before it, so names of files may hold commas. ``resize``
    always comes first, whether it is said or not; alone it stands for no other step.

    Raises:
        ModelError: ``resize`` stands elsewhere, or the list begins with no known step.
    """
    if not text.strip():
        return None
    steps: list[str] = []
    for part in text.split(","):
        if steps and not _STEP.match(part.strip()):
            steps[-1] += f",{part}"
        else:
            steps.append(part.strip())
    if not _STEP.match(steps[0]):
        raise ModelError(f"unknown preprocessing step {steps[0]!r}; known are {_KNOWN}")
    return _after_resize(steps)


def _after_resize(steps: Sequence[str]) -> tuple[str, ...]:
    for before, step in pairwise(steps):
        if step == "resize":
            raise ModelError(f"resize is always the first preprocessing step, got it after {before}: put it first")
    return tuple(steps[1:] if steps and steps[0] == "resize" else steps)


def override_steps(spec: ModelSpec, steps: Sequence[str] | None) -> ModelSpec:
    """``spec`` with other steps than those that the model was trained with; itself where ``steps`` is None."""
    return spec if steps is None else replace(spec, preprocess=_after_resize(steps))


def preprocess_notice(own: ModelSpec, used: ModelSpec) -> str:
    """What to tell the user of steps that are not the model's own; empty where they are."""
    if _after_resize(own.preprocess) == used.preprocess or own is used:
        return ""
    asked = _in_words(used.preprocess)
    return f"images are prepared by {asked}; {own.name} was trained with {_in_words(own.preprocess)}"


def preprocess_facts(own: ModelSpec, used: ModelSpec) -> dict[str, Any]:
    """For a report: the steps that were taken, and those that the model file names."""
    return {"preprocess": list(used.preprocess), "preprocess_of_model": list(own.preprocess)}


def _in_words(steps: Sequence[str]) -> str:
    return ",".join(("resize", *_after_resize(steps)))


def _parse_step(text: str, spec: ModelSpec) -> Callable[[Image], Image]:
    name, _, argument = text.partition(":")
    if name == "clahe":
        arguments = {"clip": 2.0, "tiles": 8.0} | _clahe_arguments(text, argument)
        return partial(clahe, clip=arguments["clip"], tiles=int(arguments["tiles"]))
    if name == "background" and argument:
        return partial(subtract_background, background=resize(_read_background(argument, spec.channels), spec.size))
    raise ModelError(f"unknown preprocessing step {text!r}; known are {_KNOWN}")


def _read_background(path: str, channels: int) -> Image:
    try:
        return decode_image(Path(path).read_bytes(), channels, keep_grey=True)
    except OSError as error:
        raise OptionError(f"cannot read the background image {path} ({error.strerror}): give another") from error
    except ImageError as error:
        raise OptionError(f"the background image {path} {error}") from error


def _clahe_arguments(text: str, argument: str) -> dict[str, float]:
    kinds: dict[str, Callable[[str], float]] = {"clip": float, "tiles": int}
    most = {"clip": 256, "tiles": 64}  # a clip of 256 limits nothing more, and each tile has a histogram of its own
    arguments: dict[str, float] = {}
    for pair in filter(None, argument.split(",")):
        key, _, value = pair.partition("=")
        try:
            arguments[key] = kinds[key](value)
        except (KeyError, ValueError) as error:
            raise ModelError(f"wrong preprocessing step {text!r}; write clahe:clip=2,tiles=8") from error
        if not 0 < arguments[key] <= most[key]:
            raise ModelError(f"wrong preprocessing step {text!r}: {key} must be more than 0, at most {most[key]}")
    return arguments
