"""The panel that names the classes, their colours and how much of the image each covers."""

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
_SHADE = 0.25
"""What the panel leaves of the image's brightness."""
_BRIGHT = 255
_DIM = 120
"""Grey of the text of a class that is not in the image."""
_SEEN = 0.0005
"""The share from which a class counts as being in the image."""

Text = NDArray[np.uint8]
"""Grey text on black, uint8 (row, width)."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The measures of a panel in one size of image, in pixels."""

    row: int
    """Height of a line."""
    scale: float
    """Font scale of cv2."""
    name: int
    """Width of the widest name."""
    share: int
    """Width of ``100%``."""
    rows: int
    """How many lines fit below one another."""
    width: int
    """Of the whole panel."""

    @property
    def pad(self) -> int:
        """Free space around everything, and left of every text."""
        return max(2, self.row // 3)

    @property
    def swatch(self) -> int:
        """Side of the square that shows the colour."""
        return max(3, round(self.row * 0.66))


class Legend:
    """Draws the panel into the top left corner. Not thread-safe.

    The classes stand in the order of their ids. Where all fit, all are listed, those not in the image in
    grey, so that nothing ever moves. Where they do not (many classes, small image), a class is listed from
    the first frame that shows it, until the panel is full.
    """

    def __init__(self, spec: ModelSpec, shown: list[int]) -> None:
        """
        Args:
            spec: names and colours.
            shown: ids of the classes that may be listed.
        """
        self._spec = spec
        self._shown = shown
        self._met: set[int] = set()
        self._size = (0, 0)
        self._layout: _Layout | None = None
        self._texts: dict[tuple[str, bool], Text] = {}

    def draw(self, image: Image, labels: Labels) -> None:
        """Draw the panel for ``labels``, uint8 (H, W), into ``image``, uint8 (H, W, 3).

        An image too small for a readable line is left as it is.
        """
        if image.shape[:2] != self._size:
            self._size = (image.shape[0], image.shape[1])
            self._layout = _layout(self._size, [self._spec.classes[index] for index in self._shown])
            self._texts.clear()
        if self._layout is None:
            return
        shares = class_shares(labels, len(self._spec.classes))
        listed = self._listed(shares, self._layout.rows)
        if listed:
            self._draw_panel(image, shares, listed, self._layout)

    def _listed(self, shares: NDArray[np.float64], rows: int) -> list[int]:
        if len(self._shown) <= rows:
            return self._shown
        for index in self._shown:
            if len(self._met) < rows and shares[index] >= _SEEN:
                self._met.add(index)
        return sorted(self._met)

    def _draw_panel(self, image: Image, shares: NDArray[np.float64], listed: list[int], layout: _Layout) -> None:
        margin, pad = layout.row // 2, layout.pad
        height = len(listed) * layout.row + 2 * pad
        panel = image[margin : margin + height, margin : margin + layout.width]
        texts = np.zeros(panel.shape[:2], np.uint8)
        for place, index in enumerate(listed):
            self._write_row(texts[pad + place * layout.row :][: layout.row], index, shares[index], layout)
        # Shade, then lift to the text's grey: crisp letters on a see-through panel, at one pass each.
        cv2.addWeighted(panel, _SHADE, panel, 0, 0, dst=panel)
        cv2.max(panel, cv2.cvtColor(texts, cv2.COLOR_GRAY2BGR), dst=panel)
        inset = (layout.row - layout.swatch) // 2
        for place, index in enumerate(listed):
            top = pad + place * layout.row + inset
            colour = np.array(self._spec.palette[index][::-1])
            panel[top : top + layout.swatch, pad : pad + layout.swatch] = (
                colour if shares[index] >= _SEEN else colour // 3
            )

    def _write_row(self, row: Text, index: int, share: float, layout: _Layout) -> None:
        bright = share >= _SEEN
        name = self._text(self._spec.classes[index], bright, layout)
        amount = self._text(_percent(share), bright, layout)
        left = 2 * layout.pad + layout.swatch
        right = row.shape[1] - layout.pad
        row[:, left : left + name.shape[1]] = name[:, : right - left]
        row[:, right - amount.shape[1] : right] = amount

    def _text(self, text: str, bright: bool, layout: _Layout) -> Text:
        """Rendered once and kept: there are few names, and 102 percentages."""
        key = (text, bright)
        if key not in self._texts:
            self._texts[key] = _render(text, _BRIGHT if bright else _DIM, layout)
        return self._texts[key]


def _percent(share: float) -> str:
    """Whole percents: decimals of a live image change faster than they can be read."""
    return "<1%" if _SEEN <= share < 0.005 else f"{share:.0%}"


def _render(text: str, grey: int, layout: _Layout) -> Text:
    (width, _), _ = cv2.getTextSize(text, _FONT, layout.scale, 1)
    (_, capitals), _ = cv2.getTextSize("H", _FONT, layout.scale, 1)
    image = np.zeros((layout.row, width + 2), np.uint8)
    baseline = (layout.row + capitals) // 2
    cv2.putText(image, text, (1, baseline), _FONT, layout.scale, (grey,), 1, cv2.LINE_AA)
    return image


def _layout(size: tuple[int, int], names: list[str]) -> _Layout | None:
    """The measures for an image of ``size`` (H, W); None where no readable line fits."""
    height, width = size
    row = max(11, round(height / 28))
    (_, capitals), _ = cv2.getTextSize("H", _FONT, 10.0, 1)
    scale = 10.0 * 0.5 * row / capitals
    name = max((cv2.getTextSize(text, _FONT, scale, 1)[0][0] for text in names), default=0) + 2
    share = cv2.getTextSize("100%", _FONT, scale, 1)[0][0] + 2
    pad, swatch = max(2, row // 3), max(3, round(row * 0.66))
    room = width - row  # half a line is left free on both sides
    wanted = swatch + name + share + 5 * pad
    least = swatch + share + 4 * pad
    rows = (height - row - 2 * pad) // row
    if rows < 1 or room < least:
        return None
    return _Layout(row, scale, name, share, rows, min(wanted, room))
