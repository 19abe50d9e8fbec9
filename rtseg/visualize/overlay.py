"""Labels painted over the image they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import OptionError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import to_bgr
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.system.opencv import cv2
from rtseg.visualize.array_pool import ImagePool
from rtseg.visualize.legend import Legend

__all__ = ["VIEWS", "Overlay", "OverlayOptions"]

VIEWS = ("overlay", "mask", "side", "image")
"""``overlay``: colours over the image. ``mask``: colours alone. ``side``: the image, and right of it the
overlay. ``image``: the image alone, on which contours and legend can still be drawn."""


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """How the result is drawn.

    Raises:
        OptionError: the view is unknown, or alpha is not in [0, 1].
    """

    view: str = "overlay"
    """One of ``VIEWS``."""
    alpha: float = 0.5
    """Weight of the class colour over the image, 0 (image) to 1 (colour)."""
    contours: bool = False
    """Whether a line is drawn along the borders of the classes."""
    legend: bool = False
    """Whether a panel tells the classes, their colours and the share of the image that each covers."""
    hidden: frozenset[int] = frozenset()
    """Ids of classes that are not drawn: the image stays plain there, and black in the view ``mask``."""

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise OptionError(f"unknown view {self.view!r}; known are {', '.join(VIEWS)}")
        if not 0.0 <= self.alpha <= 1.0:
            raise OptionError(f"alpha must be in [0, 1], got {self.alpha}")


class Overlay:
    """Draws results of one model. Not thread-safe: one per thread.

    Raises:
        OptionError: a hidden class is not one of the model's.
    """

    def __init__(self, spec: ModelSpec, options: OverlayOptions | None = None) -> None:
        self.options = options or OverlayOptions()
        self._classes = classes = len(spec.classes)
        strange = [hidden for hidden in sorted(self.options.hidden) if not 0 <= hidden < classes]
        if strange:
            raise OptionError(f"class {strange[0]} cannot be hidden: {spec.name} has the classes 0..{classes - 1}")
        shown = [index for index in range(classes) if index not in self.options.hidden]
        self._lut = _colour_table(spec, shown)
        self._plain = _plain_table(shown)
        self._legend = Legend(spec, shown) if self.options.legend else None
        self._images = ImagePool()
        self._colours: Image = np.empty((0, 0, 3), np.uint8)  # scratch: the class colours of one drawn

    def draw(self, image: Image, labels: Labels) -> Image:
        """Draw one result.

        Args:
            image: uint8 (H, W, C), see ``Frame.image``; painted over are its colours, or its grey. Only read.
            labels: class ids, uint8 (H, W). Void (255) and ids that the model lacks leave the image plain.

        Returns:
            BGR, uint8 (H, W, 3), for the view ``side`` (H, 2 W, 3): a new array at every call.

        Raises:
            ValueError: the sizes of ``image`` and ``labels`` differ, or one is not as above.
        """
        _check(image, labels)
        image = to_bgr(image)
        height, width = labels.shape
        view = self.options.view
        drawn = self._images.take((height, 2 * width if view == "side" else width, 3))
        canvas = drawn[:, -width:]
        if view == "side":
            drawn[:, :width] = image
        plain = self._plain_pixels(labels)
        self._paint(canvas, image, labels, plain)
        if self.options.contours:
            self._outline(canvas, labels, plain)
        if self._legend is not None:
            self._legend.draw(canvas, labels)
        return drawn

    def _plain_pixels(self, labels: Labels) -> Labels | None:
        """255 where nothing is drawn, else 0; None where that is nowhere, as in most frames."""
        highest = cv2.minMaxLoc(labels)[1]
        if not self.options.hidden and highest < self._classes:
            return None
        return np.asarray(cv2.LUT(labels, self._plain), np.uint8)

    def _paint(self, canvas: Image, image: Image, labels: Labels, plain: Labels | None) -> None:
        if self.options.view == "image":
            canvas[:] = image
        elif self.options.view == "mask":
            cv2.applyColorMap(labels, self._lut, dst=canvas)
        else:
            colours, alpha = self._class_colours(labels), self.options.alpha
            cv2.addWeighted(image, 1 - alpha, colours, alpha, 0, dst=canvas)
            if plain is not None:
                cv2.copyTo(image, plain, canvas)

    def _outline(self, canvas: Image, labels: Labels, plain: Labels | None) -> None:
        """Lines along the borders: white over colours, and in the colours of both sides on a bare image."""
        # Hidden and void pixels become one class, so that no line runs between two of them.
        seen = labels if plain is None else np.asarray(cv2.bitwise_or(labels, plain), np.uint8)
        width = _line_width(labels.shape[0])
        if self.options.view != "image":
            white = np.full_like(canvas, 255)
            cv2.copyTo(white, _borders(seen, width), canvas)
            return
        line = _borders(seen, 2 * width)
        if plain is not None:
            cv2.subtract(line, plain, dst=line)
        cv2.copyTo(self._class_colours(labels), line, canvas)

    def _class_colours(self, labels: Labels) -> Image:
        """Colour of every pixel's class, uint8 BGR (H, W, 3), valid until the next call."""
        if self._colours.shape[:2] != labels.shape:
            self._colours = np.empty((*labels.shape, 3), np.uint8)
        cv2.applyColorMap(labels, self._lut, dst=self._colours)
        return self._colours


def _borders(labels: Labels, width: int) -> Labels:
    """Not 0 in lines of ``width`` pixels between areas of unlike label; uint8 (H, W)."""
    square = np.ones((width + 1, width + 1), np.uint8)
    return np.asarray(cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, square), np.uint8)


def _line_width(height: int) -> int:
    """Pixels that look like a thin line in an image of ``height`` rows: 1 up to 720p, 3 in 4K."""
    return max(1, round(height / 720))


def _colour_table(spec: ModelSpec, shown: list[int]) -> NDArray[np.uint8]:
    """BGR colour of every label, uint8 (256, 1, 3); black where nothing is drawn."""
    table = np.zeros((256, 1, 3), np.uint8)
    for index in shown:
        table[index, 0] = spec.palette[index][::-1]
    return table


def _plain_table(shown: list[int]) -> NDArray[np.uint8]:
    """0 for every label that is drawn, 255 for the others, uint8 (256,)."""
    table = np.full(256, VOID, np.uint8)
    table[shown] = 0
    return table


def _check(image: Image, labels: Labels) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or not 1 <= image.shape[2] <= 4:
        raise ValueError(f"image must be uint8 (H, W, 1 to 4), got {image.dtype} {image.shape}")
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"labels must be uint8 (H, W), got {labels.dtype} {labels.shape}")
    if image.shape[:2] != labels.shape:
        raise ValueError(f"labels of {labels.shape} do not fit an image of {image.shape[:2]}")
