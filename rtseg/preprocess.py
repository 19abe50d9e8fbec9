"""From the picture of a source to the input of a model: resize, then the steps that the model's metadata names.

Plain functions on arrays, the same in training, evaluation, calibration and streaming.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from rtseg._cv2 import cv2
from rtseg.errors import ModelError, OptionError
from rtseg.frame import Labels, Picture
from rtseg.pictures import PictureError, decode_picture, to_bgr
from rtseg.spec import ModelSpec

__all__ = ["NEUTRAL", "Prepare", "clahe", "resize", "resize_labels", "subtract_background"]

NEUTRAL = 128
"""Value of a pixel that equals its background."""


def resize(image: Picture, size: tuple[int, int]) -> Picture:
    """Scale to ``size`` = (H, W) without keeping the aspect ratio; every channel alike.

    Area averaging where the picture shrinks to half or less in both directions (bilinear would skip pixels there),
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


def clahe(image: Picture, *, clip: float = 2.0, tiles: int = 8) -> Picture:
    """Contrast-limited adaptive histogram equalisation of the lightness; colours keep their hue.

    A plane beside the colours, or beside grey, stays as it is: what its values mean may hang on their height.

    Args:
        image: uint8 (H, W, C), see ``rtseg.frame.Picture``.
        clip: contrast limit, as a multiple of a flat histogram's bin.
        tiles: grid of tiles x tiles regions.

    Source: Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
    """
    equalise = cv2.createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles))
    if image.shape[2] == 2:
        grey, other = cv2.split(image)
        return np.asarray(cv2.merge((equalise.apply(grey), other)), dtype=np.uint8)
    lightness, a, b = cv2.split(cv2.cvtColor(to_bgr(image), cv2.COLOR_BGR2LAB))
    colours = cv2.cvtColor(cv2.merge((equalise.apply(lightness), a, b)), cv2.COLOR_LAB2BGR)
    if image.shape[2] == 4:
        colours = cv2.merge((*cv2.split(colours), image[..., 3]))
    return np.asarray(colours, dtype=np.uint8)


def subtract_background(image: Picture, background: Picture) -> Picture:
    """``image - background + NEUTRAL``, clipped to 0..255: what differs from the still scene.

    Args:
        image: uint8 (H, W, C), see ``rtseg.frame.Picture``; the difference is taken of every channel.
        background: of the same shape and dtype.
    """
    return np.asarray(cv2.addWeighted(image, 1.0, background, -1.0, NEUTRAL), dtype=np.uint8)


class Prepare:
    """Makes model input of pictures of any size: ``spec.size``, then each step of ``spec.preprocess``.

    Steps are texts: ``clahe`` or ``clahe:clip=2,tiles=8``, and ``background:FILE``.

    Raises:
        ModelError: a step is not known or its arguments are wrong.
        OptionError: a background picture cannot be read, or has no plane beside the colours though the model wants it.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.size = spec.size
        self._steps = [_parse_step(text, spec) for text in spec.preprocess]

    def __call__(self, image: Picture) -> Picture:
        """uint8 (H, W, C) of any size -> uint8 (*spec.size, C), C as ``spec.channels``; grey, (H, W, 1), becomes BGR."""
        out = resize(image, self.size)
        if out.shape[2] == 1:
            out = to_bgr(out)
        for step in self._steps:
            out = step(out)
        return out


def _parse_step(text: str, spec: ModelSpec) -> Callable[[Picture], Picture]:
    name, _, argument = text.partition(":")
    if name == "clahe":
        arguments = {"clip": 2.0, "tiles": 8.0} | _clahe_arguments(text, argument)
        return partial(clahe, clip=arguments["clip"], tiles=int(arguments["tiles"]))
    if name == "background" and argument:
        return partial(subtract_background, background=resize(_read_background(argument, spec.channels), spec.size))
    raise ModelError(f"unknown preprocessing step {text!r}; known are clahe:clip=2,tiles=8 and background:FILE")


def _read_background(path: str, channels: int) -> Picture:
    try:
        return decode_picture(Path(path).read_bytes(), channels)
    except OSError as error:
        raise OptionError(f"cannot read the background picture {path} ({error.strerror}): give another") from error
    except PictureError as error:
        raise OptionError(f"the background picture {path} {error}") from error


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
