"""Convert images to model input: resize, then the preprocessing steps in the model's metadata.

Training, evaluation, calibration and streaming all use these functions, so a model always gets the same input.
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
from rtseg.system.read_file import read_image_bytes

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
"""Value of a pixel that equals the background after subtraction."""

_KNOWN_STEPS = "clahe:clip=2,tiles=8 and background:FILE, after resize"
_STEP = re.compile(r"(resize|background|clahe)(:|$)")


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Scale all channels to ``size`` = (H, W) without preserving the aspect ratio.

    Uses area averaging if both sides shrink to half or less (bilinear interpolation would skip pixels), else bilinear
    interpolation. An image that already has the size is returned itself, not copied.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    downsample = image.shape[0] >= 2 * height and image.shape[1] >= 2 * width
    out = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if downsample else cv2.INTER_LINEAR)
    return np.asarray(out, dtype=np.uint8).reshape(height, width, -1)  # OpenCV drops the axis of a single channel


def resize_labels(labels: Labels, size: tuple[int, int]) -> Labels:
    """Scale class IDs to ``size`` = (H, W) with nearest-neighbour sampling."""
    height, width = size
    if labels.shape == (height, width):
        return labels
    # INTER_NEAREST_EXACT samples at pixel centres; INTER_NEAREST is off by up to half a pixel.
    out = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(out, dtype=np.uint8)


def clahe(image: Image, *, clip: float = 2.0, tiles: int = 8) -> Image:
    """Apply contrast-limited adaptive histogram equalisation to the lightness. Hue is preserved.

    A grey image (H, W, 1) becomes BGR. An extra channel is not changed, because its values may be absolute
    measurements such as depth.

    Args:
        image: uint8 (H, W, C), see ``rtseg.frame.Image``.
        clip: Contrast limit, as a multiple of the bin height of a uniform histogram.
        tiles: The image is divided into tiles x tiles regions.

    Source: Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV, 1994.
    """
    equalise = cv2.createCLAHE(clipLimit=clip, tileGridSize=(tiles, tiles))
    if image.shape[2] == 2:
        grey, extra = cv2.split(image)
        return np.asarray(cv2.merge((equalise.apply(grey), extra)), dtype=np.uint8)
    if image.shape[2] == 1:
        to_lightness, to_bgr_grey = _grey_lightness_tables()
        return np.asarray(cv2.applyColorMap(equalise.apply(cv2.LUT(image, to_lightness)), to_bgr_grey), dtype=np.uint8)
    lightness, a, b = cv2.split(cv2.cvtColor(to_bgr(image), cv2.COLOR_BGR2LAB))
    colours = cv2.cvtColor(cv2.merge((equalise.apply(lightness), a, b)), cv2.COLOR_LAB2BGR)
    if image.shape[2] == 4:
        colours = cv2.merge((*cv2.split(colours), image[..., 3]))
    return np.asarray(colours, dtype=np.uint8)


@cache
def _grey_lightness_tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return two lookup tables: grey value to lightness, uint8 (256,), and lightness to BGR, uint8 (256, 1, 3).

    A lookup is several times faster than converting three equal channels to LAB and back. The result is the same.
    """
    values = np.arange(256, dtype=np.uint8).reshape(256, 1)
    lab = cv2.cvtColor(cv2.merge((values, values, values)), cv2.COLOR_BGR2LAB)
    lightness, a, b = cv2.split(lab)  # a and b are constant for grey
    bgr = cv2.cvtColor(cv2.merge((values, a, b)), cv2.COLOR_LAB2BGR)
    return np.asarray(lightness, dtype=np.uint8).ravel(), np.asarray(bgr, dtype=np.uint8)


def subtract_background(image: Image, background: Image) -> Image:
    """Return ``image - background + NEUTRAL``, clipped to 0..255.

    Args:
        image: uint8 (H, W, C), see ``rtseg.frame.Image``. All channels are subtracted.
        background: Same height, width and channels. One of the two may be grey and the other BGR.
    """
    if image.shape[2] != background.shape[2]:
        image, background = to_bgr(image), to_bgr(background)
    difference = cv2.addWeighted(image, 1.0, background, -1.0, NEUTRAL)
    return np.asarray(difference, dtype=np.uint8).reshape(image.shape)  # OpenCV drops the axis of a single channel


class Prepare:
    """Converts images of any size to model input: resize to ``spec.size``, then apply ``spec.preprocess``.

    Steps are strings: ``clahe``, ``clahe:clip=2,tiles=8`` or ``background:FILE``. The first may be ``resize``.

    Raises:
        ModelError: A step is unknown, has wrong arguments, or is a ``resize`` that is not first.
        OptionError: A background image cannot be read, or lacks the extra channel that the model needs.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.size = spec.size
        self._steps = [_parse_step(text, spec) for text in _after_resize(spec.preprocess)]

    def __call__(self, image: Image) -> Image:
        """Convert an image, uint8 (H, W, C) of any size, to uint8 (*spec.size, C) with C = ``spec.channels``.

        A grey image (H, W, 1) becomes BGR. The result is the same as for three equal channels.
        """
        out = resize(image, self.size)
        for step in self._steps:
            out = step(out)
        return to_bgr(out) if out.shape[2] == 1 else out


def parse_steps(text: str) -> tuple[str, ...] | None:
    """Split a list such as ``resize,background:FILE,clahe:clip=2,tiles=8`` into steps. An empty list gives None.

    A comma separates two steps only if a known step follows, so file names may contain commas. ``resize`` is always
    the first step and may be omitted. ``resize`` alone means no further steps.

    Raises:
        ModelError: ``resize`` is not first, or the list does not begin with a known step.
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
        raise ModelError(f"unknown preprocessing step {steps[0]!r}; known are {_KNOWN_STEPS}")
    return _after_resize(steps)


def _after_resize(steps: Sequence[str]) -> tuple[str, ...]:
    for before, step in pairwise(steps):
        if step == "resize":
            raise ModelError(f"resize is always the first preprocessing step, got it after {before}: put it first")
    return tuple(steps[1:] if steps and steps[0] == "resize" else steps)


def override_steps(spec: ModelSpec, steps: Sequence[str] | None) -> ModelSpec:
    """Return ``spec`` with other preprocessing steps, or ``spec`` itself if ``steps`` is None."""
    return spec if steps is None else replace(spec, preprocess=_after_resize(steps))


def preprocess_notice(own: ModelSpec, used: ModelSpec) -> str:
    """Return a notice if the steps differ from the model's own, else an empty string."""
    if _after_resize(own.preprocess) == used.preprocess or own is used:
        return ""
    steps, trained_steps = _format_steps(used.preprocess), _format_steps(own.preprocess)
    return f"images are prepared by {steps}; {own.name} was trained with {trained_steps}"


def preprocess_facts(own: ModelSpec, used: ModelSpec) -> dict[str, Any]:
    """Return the steps used and the steps in the model file, for a report."""
    return {"preprocess": list(used.preprocess), "preprocess_of_model": list(own.preprocess)}


def _format_steps(steps: Sequence[str]) -> str:
    return ",".join(("resize", *_after_resize(steps)))


def _parse_step(text: str, spec: ModelSpec) -> Callable[[Image], Image]:
    name, _, argument = text.partition(":")
    if name == "clahe":
        arguments = {"clip": 2.0, "tiles": 8.0} | _clahe_arguments(text, argument)
        return partial(clahe, clip=arguments["clip"], tiles=int(arguments["tiles"]))
    if name == "background" and argument:
        return partial(subtract_background, background=resize(_read_background(argument, spec.channels), spec.size))
    raise ModelError(f"unknown preprocessing step {text!r}; known are {_KNOWN_STEPS}")


def _read_background(path: str, channels: int) -> Image:
    try:
        return decode_image(read_image_bytes(Path(path)), channels, keep_grey=True, note=_refuse_odd_background)
    except OSError as error:
        raise OptionError(f"cannot read the background image {path} ({error.strerror}): give another file") from error
    except ImageError as error:
        raise OptionError(f"the background image {path} {error}") from error


def _refuse_odd_background(kind: str, number: int) -> None:
    """Raise an error where ``decode_image`` would only note that a guess is made about an image."""
    if kind == "pages":
        raise ImageError(f"contains {number} images: give a file with one, e.g. of `rtseg background`")
    if kind == "low":
        raise ImageError(
            f"has values up to {number} of 65535, so it would be read as dark: save it with 8 bits, or with the "
            "significant bits declared (sBIT)"
        )


def _clahe_arguments(text: str, argument: str) -> dict[str, float]:
    parsers: dict[str, Callable[[str], float]] = {"clip": float, "tiles": int}
    limits = {"clip": 256, "tiles": 64}  # a clip of 256 has no effect; each tile needs a histogram
    arguments: dict[str, float] = {}
    for pair in filter(None, argument.split(",")):
        key, _, value = pair.partition("=")
        try:
            arguments[key] = parsers[key](value)
        except (KeyError, ValueError) as error:
            raise ModelError(f"wrong preprocessing step {text!r}; write clahe:clip=2,tiles=8") from error
        if not 0 < arguments[key] <= limits[key]:
            raise ModelError(f"wrong preprocessing step {text!r}: {key} must be more than 0 and at most {limits[key]}")
    return arguments
