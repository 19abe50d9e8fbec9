"""The legend: a panel with the classes, their colours and their share of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.frame import Image, Labels
from rtseg.metrics.class_shares import class_shares
from rtseg.model_file.spec import ModelSpec
from rtseg.system.opencv import cv2

__all__ = ["Legend"]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PANEL_BRIGHTNESS = 0.25
"""Brightness factor of the image behind the panel."""
_BRIGHT = 255
_DIM = 120
"""Grey level of the text of a class that is not in the image."""
_MIN_SHARE = 0.0005
"""A class with a smaller share counts as not in the image."""
_MOST_ROWS = 16
"""Of a legend that cannot list all classes."""
_MEMORY = 0.9
"""Weight of the earlier frames in the averaged shares."""

Text = NDArray[np.uint8]
"""Grey text on black, uint8 (row, width)."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes of the panel for one image size, in pixels."""

    row: int
    """Height of a row."""
    scale: float
    """Font scale of OpenCV."""
    rows: int
    """Number of rows that fit."""
    width: int
    """Width of the panel."""

    @property
    def pad(self) -> int:
        """Margin around the panel's content and left of each text."""
        return max(2, self.row // 3)

    @property
    def swatch(self) -> int:
        """Side of the colour square."""
        return max(3, round(self.row * 0.66))


@dataclass(frozen=True, slots=True)
class _Row:
    """What a row of the panel shows."""

    name: str
    colour: tuple[int, int, int] | None
    """RGB; None without a colour square."""
    share: float
    """Of the image, in [0, 1]."""


class Legend:
    """Draws the legend into the top left corner. Not thread-safe.

    If all classes fit, all are listed by ID and those not in the image are dimmed, so that rows do not move. Otherwise
    (many classes, small image) the largest ones are listed, largest first, and the last row is the share of the others.
    Their order is that of shares averaged over the last frames, so that rows seldom move.
    """

    def __init__(self, spec: ModelSpec, shown: list[int]) -> None:
        """
        Args:
            spec: Class names and colours.
            shown: IDs of the classes that may be listed.
        """
        self._spec = spec
        self._shown = shown
        self._average: NDArray[np.float64] | None = None
        """Of the shares of each class in the last frames."""
        self._size = (0, 0)
        self._layout: _Layout | None = None
        self._texts: dict[tuple[str, bool], Text] = {}

    def draw(self, image: Image, labels: Labels) -> None:
        """Draw the legend for ``labels``, uint8 (H, W), into ``image``, uint8 (H, W, 3).

        Does nothing if the image is too small for readable text.
        """
        if image.shape[:2] != self._size:
            self._size = (image.shape[0], image.shape[1])
            self._layout = _layout(self._size, [self._spec.classes[index] for index in self._shown])
            self._texts.clear()
        if self._layout is None:
            return
        shares = class_shares(labels, len(self._spec.classes))
        rows = self._rows(shares, self._layout.rows)
        if rows:
            self._draw_panel(image, rows, self._layout)

    def _rows(self, shares: NDArray[np.float64], fitting: int) -> list[_Row]:
        if len(self._shown) <= fitting:
            return [self._row(index, shares[index]) for index in self._shown]
        average = shares if self._average is None else _MEMORY * self._average + (1 - _MEMORY) * shares
        self._average = average
        visible = [index for index in self._shown if max(shares[index], average[index]) >= _MIN_SHARE]
        visible.sort(key=lambda index: -average[index])
        most = min(fitting, _MOST_ROWS)
        if len(visible) <= most:
            return [self._row(index, shares[index]) for index in visible]
        others = _Row(f"{len(visible) - most + 1} others", None, float(shares[visible[most - 1 :]].sum()))
        return [*(self._row(index, shares[index]) for index in visible[: most - 1]), others]

    def _row(self, index: int, share: float) -> _Row:
        return _Row(self._spec.classes[index], self._spec.palette[index], float(share))

    def _draw_panel(self, image: Image, rows: list[_Row], layout: _Layout) -> None:
        margin, pad = layout.row // 2, layout.pad
        height = len(rows) * layout.row + 2 * pad
        panel = image[margin : margin + height, margin : margin + layout.width]
        texts = np.zeros(panel.shape[:2], np.uint8)
        for position, row in enumerate(rows):
            self._write_row(texts[pad + position * layout.row :][: layout.row], row, layout)
        # Darken, then take the maximum with the text: sharp letters on a transparent panel in two fast passes.
        cv2.addWeighted(panel, _PANEL_BRIGHTNESS, panel, 0, 0, dst=panel)
        cv2.max(panel, cv2.cvtColor(texts, cv2.COLOR_GRAY2BGR), dst=panel)
        inset = (layout.row - layout.swatch) // 2
        for position, row in enumerate(rows):
            if row.colour is None:
                continue
            top = pad + position * layout.row + inset
            colour = np.array(row.colour[::-1])
            colour = colour if row.share >= _MIN_SHARE else colour // 3
            panel[top : top + layout.swatch, pad : pad + layout.swatch] = colour

    def _write_row(self, pixels: Text, row: _Row, layout: _Layout) -> None:
        bright = row.share >= _MIN_SHARE
        name = self._text(row.name, bright, layout)
        percent = self._text(_format_percent(row.share), bright, layout)
        left = 2 * layout.pad + layout.swatch
        right = pixels.shape[1] - layout.pad
        name = name[:, : max(0, right - percent.shape[1] - left)]
        pixels[:, left : left + name.shape[1]] = name
        pixels[:, right - percent.shape[1] : right] = percent

    def _text(self, text: str, bright: bool, layout: _Layout) -> Text:
        """Render a text, or return it from the cache: there are few names and 102 percentages."""
        key = (text, bright)
        if key not in self._texts:
            self._texts[key] = _render(text, _BRIGHT if bright else _DIM, layout)
        return self._texts[key]


def _format_percent(share: float) -> str:
    """Format as a whole percentage: decimals change too fast to be read in live video."""
    return "<1%" if _MIN_SHARE <= share < 0.005 else f"{share:.0%}"


def _render(text: str, grey: int, layout: _Layout) -> Text:
    (width, _), _ = cv2.getTextSize(text, _FONT, layout.scale, 1)
    (_, capitals), _ = cv2.getTextSize("H", _FONT, layout.scale, 1)
    image = np.zeros((layout.row, width + 2), np.uint8)
    baseline = (layout.row + capitals) // 2
    cv2.putText(image, text, (1, baseline), _FONT, layout.scale, (grey,), 1, cv2.LINE_AA)
    return image


def _layout(size: tuple[int, int], names: list[str]) -> _Layout | None:
    """Return the layout for an image of ``size`` (H, W), or None if no readable row fits."""
    height, width = size
    row = max(11, round(height / 28))
    (_, capitals), _ = cv2.getTextSize("H", _FONT, 10.0, 1)
    scale = 10.0 * 0.5 * row / capitals
    name = max((cv2.getTextSize(text, _FONT, scale, 1)[0][0] for text in names), default=0) + 2
    share = cv2.getTextSize("100%", _FONT, scale, 1)[0][0] + 2
    pad, swatch = max(2, row // 3), max(3, round(row * 0.66))
    available = width - row  # half a row stays free on both sides
    full_width = swatch + name + share + 5 * pad
    min_width = swatch + share + 4 * pad
    rows = (height - row - 2 * pad) // row
    if rows < 1 or available < min_width:
        return None
    return _Layout(row, scale, rows, min(full_width, available))
