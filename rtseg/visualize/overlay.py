"""Draw labels over their image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import OptionError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import to_bgr
from rtseg.model_file.spec import VOID, ModelSpec
from rtseg.system.opencv import cv2
from rtseg.visualize.array_pool import ArrayPool
from rtseg.visualize.legend import Legend

__all__ = ["VIEWS", "Overlay", "OverlayOptions"]

VIEWS = ("overlay", "mask", "side", "image")
"""``overlay``: class colours over the image. ``mask``: only class colours. ``side``: image and overlay side by side.
``image``: only the image; contours and legend can still be drawn on it."""


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """How labels are drawn.

    Raises:
        OptionError: The view is unknown, or alpha is not in [0, 1].
    """

    view: str = "overlay"
    """One of ``VIEWS``."""
    alpha: float = 0.5
    """Opacity of the class colours, 0 (only the image) to 1 (only colours)."""
    contours: bool = False
    """Whether to draw lines along class borders."""
    legend: bool = False
    """Whether to draw a panel with the classes, their colours and their share of the image."""
    hidden: frozenset[int] = frozenset()
    """IDs of classes that are not drawn. Their pixels show the image, or black in the view ``mask``."""
    hatched: bool = False
    """Whether to draw diagonal lines where the label is void, except in the view ``image``."""

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise OptionError(f"unknown view {self.view!r}; known are {', '.join(VIEWS)}")
        if not 0.0 <= self.alpha <= 1.0:
            raise OptionError(f"alpha must be in [0, 1], got {self.alpha}")


class Overlay:
    """Draws the labels of one model. Not thread-safe: use one per thread.

    Raises:
        OptionError: A hidden class is not a class of the model.
    """

    def __init__(self, spec: ModelSpec, options: OverlayOptions | None = None) -> None:
        self.options = options or OverlayOptions()
        self._classes = classes = len(spec.classes)
        unknown = [hidden for hidden in sorted(self.options.hidden) if not 0 <= hidden < classes]
        if unknown:
            raise OptionError(f"class {unknown[0]} cannot be hidden: {spec.name} has the classes 0..{classes - 1}")
        shown = [index for index in range(classes) if index not in self.options.hidden]
        self._lut = _colour_table(spec, shown)
        self._undrawn_lut = _undrawn_table(shown)
        self._legend = Legend(spec, shown) if self.options.legend else None
        self._pool = ArrayPool()
        self._colours: Image = np.empty((0, 0, 3), np.uint8)  # scratch buffer
        self._hatching: NDArray[np.uint8] = np.empty((0, 0), np.uint8)

    def draw(self, image: Image, labels: Labels) -> Image:
        """Draw the labels of one image.

        Args:
            image: uint8 (H, W, C), see ``Frame.image``. An extra channel is ignored. The image is not modified.
            labels: Class IDs, uint8 (H, W). Void (255) and unknown IDs are not drawn.

        Returns:
            BGR, uint8 (H, W, 3), or (H, 2 W, 3) for the view ``side``. Each call returns a new array.

        Raises:
            ValueError: The sizes of ``image`` and ``labels`` differ, or a dtype or shape is wrong.
        """
        _check(image, labels)
        image = to_bgr(image)
        height, width = labels.shape
        view = self.options.view
        drawn = self._pool.empty((height, 2 * width if view == "side" else width, 3))
        canvas = drawn[:, -width:]
        if view == "side":
            drawn[:, :width] = image
        undrawn = self._undrawn_pixels(labels)
        self._draw_view(canvas, image, labels, undrawn)
        if self.options.hatched and undrawn is not None and view != "image":
            self._draw_hatching(canvas, labels)
        if self.options.contours:
            self._draw_contours(canvas, labels, undrawn)
        if self._legend is not None:
            self._legend.draw(canvas, labels)
        return drawn

    def _undrawn_pixels(self, labels: Labels) -> Labels | None:
        """Return 255 where nothing is drawn, else 0; None if everything is drawn, as in most frames."""
        highest = cv2.minMaxLoc(labels)[1]
        if not self.options.hidden and highest < self._classes:
            return None
        return np.asarray(cv2.LUT(labels, self._undrawn_lut), np.uint8)

    def _draw_view(self, canvas: Image, image: Image, labels: Labels, undrawn: Labels | None) -> None:
        if self.options.view == "image":
            canvas[:] = image
        elif self.options.view == "mask":
            cv2.applyColorMap(labels, self._lut, dst=canvas)
        else:
            colours, alpha = self._class_colours(labels), self.options.alpha
            cv2.addWeighted(image, 1 - alpha, colours, alpha, 0, dst=canvas)
            if undrawn is not None:
                cv2.copyTo(image, undrawn, canvas)

    def _draw_hatching(self, canvas: Image, labels: Labels) -> None:
        """Draw white lines with black edges where the label is void: they are seen on bright and on dark images."""
        if self._hatching.shape != labels.shape:
            self._hatching = _hatching(labels.shape)
        lines = np.where(labels == VOID, self._hatching, 1)
        for grey in (0, 255):
            canvas[lines == grey] = grey

    def _draw_contours(self, canvas: Image, labels: Labels, undrawn: Labels | None) -> None:
        """Draw lines along class borders: white on class colours, in both class colours on the plain image."""
        # Hidden and void pixels become one class, so that no line is drawn between them.
        drawn = labels if undrawn is None else np.asarray(cv2.bitwise_or(labels, undrawn), np.uint8)
        width = _line_width(labels.shape[0])
        if self.options.view != "image":
            white = np.full_like(canvas, 255)
            cv2.copyTo(white, _borders(drawn, width), canvas)
            return
        line = _borders(drawn, 2 * width)
        if undrawn is not None:
            cv2.subtract(line, undrawn, dst=line)
        cv2.copyTo(self._class_colours(labels), line, canvas)

    def _class_colours(self, labels: Labels) -> Image:
        """Return the class colour of each pixel, uint8 BGR (H, W, 3), valid until the next call."""
        if self._colours.shape[:2] != labels.shape:
            self._colours = np.empty((*labels.shape, 3), np.uint8)
        cv2.applyColorMap(labels, self._lut, dst=self._colours)
        return self._colours


def _borders(labels: Labels, width: int) -> Labels:
    """Return an array that is not 0 on lines of ``width`` pixels between different labels, uint8 (H, W)."""
    square = np.ones((width + 1, width + 1), np.uint8)
    return np.asarray(cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, square), np.uint8)


def _hatching(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return diagonal lines, uint8 (H, W): 255 on a line, 0 along its edges, 1 elsewhere."""
    width = 2 * _line_width(shape[0])
    position = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % (8 * width)
    return np.where(position < width, 255, np.where(position < 2 * width, 0, 1)).astype(np.uint8)


def _line_width(height: int) -> int:
    """Return the width of a thin line in pixels: 1 up to 720p, 3 in 4K."""
    return max(1, round(height / 720))


def _colour_table(spec: ModelSpec, shown: list[int]) -> NDArray[np.uint8]:
    """Return the BGR colour of each label, uint8 (256, 1, 3); black for labels that are not drawn."""
    table = np.zeros((256, 1, 3), np.uint8)
    for index in shown:
        table[index, 0] = spec.palette[index][::-1]
    return table


def _undrawn_table(shown: list[int]) -> NDArray[np.uint8]:
    """Return 0 for each label that is drawn and 255 for the others, uint8 (256,)."""
    table = np.full(256, VOID, np.uint8)
    table[shown] = 0
    return table


def _check(image: Image, labels: Labels) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or not 1 <= image.shape[2] <= 4:
        raise ValueError(f"image must be uint8 (H, W, 1 to 4), got {image.dtype} {image.shape}")
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"labels must be uint8 (H, W), got {labels.dtype} {labels.shape}")
    if image.shape[:2] != labels.shape:
        raise ValueError(f"labels have the size {labels.shape}, the image has {image.shape[:2]}: they must be equal")
