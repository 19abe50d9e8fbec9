"""The confusion matrix as a CSV table or as an image."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import OptionError
from rtseg.frame import Image
from rtseg.system.atomic_files import write_bytes
from rtseg.system.opencv import cv2

__all__ = ["check_confusion_path", "confusion_csv", "draw_confusion", "write_confusion"]

_SUFFIXES = (".csv", ".png")
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 12
"""Margin around each element, in pixels."""
_MAX_NAME_WIDTH = 220
"""Longer class names are truncated to this width, in pixels."""
_TEXT, _FAINT_TEXT, _BACKGROUND, _ABSENT = 40, 110, 255, 225
"""Grey levels: text, the note, the background, and rows of classes that are not in the ground truth."""
_COLOUR_SCALE = np.array([(255, 255, 255), (225, 190, 150), (160, 90, 40), (85, 30, 10)], np.float64)
"""BGR of the shares 0, 1/3, 2/3 and 1. Dark blue on white is readable in print and for colour-blind readers."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes that depend on the number of classes."""

    cell: int
    """Side of a square in pixels."""
    font: float
    """Font scale of the percentages; 0 if the squares are too small for text."""
    decimals: int
    """Decimal places of the percentages."""


def check_confusion_path(path: Path) -> None:
    """Check the file name before a long run.

    Raises:
        OptionError: The suffix is neither .csv nor .png.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"--confusion {path} must end in {' or '.join(_SUFFIXES)}: choose another file name")


def write_confusion(path: Path, counts: Sequence[Sequence[int]], classes: tuple[str, ...], title: str) -> None:
    """Write a confusion matrix as a table (.csv) or as an image (.png).

    Args:
        path: The file; an existing file is replaced.
        counts: Pixel counts, C x C: rows are ground truth, columns are prediction.
        classes: Class names.
        title: First line of the image.

    Raises:
        OptionError: The file has another suffix.
        SinkError: The file cannot be written.
    """
    check_confusion_path(path)
    matrix = np.array(counts, np.int64)
    if path.suffix.lower() == ".csv":
        write_bytes(path, confusion_csv(matrix, classes).encode())
    else:
        write_bytes(path, cv2.imencode(".png", draw_confusion(matrix, classes, title))[1].tobytes())


def confusion_csv(matrix: NDArray[np.int64], classes: tuple[str, ...]) -> str:
    """Format pixel counts as CSV: one row per ground-truth class, one column per predicted class.

    The first row and the first column contain the class names.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["truth \\ prediction", *classes])
    table.writerows([name, *counts] for name, counts in zip(classes, matrix.tolist(), strict=True))
    return text.getvalue()


def draw_confusion(matrix: NDArray[np.int64], classes: tuple[str, ...], title: str) -> Image:
    """Draw a heat map. Each square shows how many percent of a class's pixels (row) got a label (column).

    A percentage that rounds to 0 is not printed. Rows of classes that are not in the ground truth are grey.

    Args:
        matrix: Pixel counts, int64 (C, C): rows are ground truth, columns are prediction.
        classes: Class names.
        title: The first line.

    Returns:
        BGR, uint8 (H, W, 3).
    """
    layout = _layout(len(classes))
    names = [_render_name(text) for text in classes]
    note = "rows: ground truth, columns: prediction, in % of the row's pixels"
    if not matrix.any(1).all():
        note += "; grey: not in the ground truth"
    lines = [_render_text(title, 0.55), _render_text(note, 0.42)]
    side = layout.cell * len(classes) + 1
    margin = max(name.shape[1] for name in names) + 2 * _GAP
    top = sum(line.shape[0] + _GAP for line in lines) + margin
    width = max(margin + side + _GAP, *(line.shape[1] + 2 * _GAP for line in lines))
    canvas = np.full((top + side + _GAP, width, 3), _BACKGROUND, np.uint8)

    y = _GAP
    for line, grey in zip(lines, (_TEXT, _FAINT_TEXT), strict=True):
        _paste_text(canvas, line, (y, _GAP), grey)
        y += line.shape[0] + _GAP
    for index, name in enumerate(names):
        offset = index * layout.cell + (layout.cell - name.shape[0]) // 2
        _paste_text(canvas, name, (top + offset, margin - _GAP // 2 - name.shape[1]), _TEXT)
        rotated = np.rot90(name)
        _paste_text(canvas, rotated, (top - _GAP // 2 - rotated.shape[0], margin + offset), _TEXT)
    _draw_squares(canvas[top : top + side, margin : margin + side], matrix, layout)
    return canvas


def _draw_squares(canvas: Image, matrix: NDArray[np.int64], layout: _Layout) -> None:
    totals = matrix.sum(1)
    for row, total in enumerate(totals):
        for column, count in enumerate(matrix[row]):
            y, x = row * layout.cell + 1, column * layout.cell + 1
            square = canvas[y : y + layout.cell - 1, x : x + layout.cell - 1]
            if not total:
                square[:] = _ABSENT
                continue
            share = count / total
            square[:] = _colour(share)
            percentage = f"{100 * share:.{layout.decimals}f}"
            if layout.font and float(percentage) > 0:
                text = _render_text(percentage, layout.font)
                position = ((square.shape[0] - text.shape[0]) // 2, (square.shape[1] - text.shape[1]) // 2)
                _paste_text(square, text, position, _BACKGROUND if share > 0.45 else _TEXT)
    canvas[:: layout.cell] = canvas[:, :: layout.cell] = _ABSENT


def _layout(classes: int) -> _Layout:
    """Choose large squares for few classes, and squares without text for very many."""
    if classes <= 12:
        return _Layout(64, 0.5, 1)
    return _Layout(40, 0.42, 0) if classes <= 60 else _Layout(18, 0.0, 0)


def _colour(share: float) -> NDArray[np.uint8]:
    """Return the BGR colour of a share in [0, 1], uint8 (3,)."""
    stops = np.linspace(0, 1, len(_COLOUR_SCALE))
    return np.array([round(np.interp(share, stops, channel)) for channel in _COLOUR_SCALE.T], np.uint8)


def _render_name(text: str) -> NDArray[np.uint8]:
    """Render a class name, truncated if it is too long."""
    name = _render_text(text, 0.45)
    while name.shape[1] > _MAX_NAME_WIDTH:
        text = text[:-1]
        name = _render_text(f"{text}..", 0.45)
    return name


def _render_text(text: str, font: float) -> NDArray[np.uint8]:
    """Render a line of text as an opacity mask, 0..255, uint8 (h, w)."""
    (width, _), _ = cv2.getTextSize(text, _FONT, font, 1)
    (_, height), below = cv2.getTextSize("Hg", _FONT, font, 1)
    canvas = np.zeros((height + below, width + 2), np.uint8)
    cv2.putText(canvas, text, (1, height), _FONT, font, (255,), 1, cv2.LINE_AA)
    return canvas


def _paste_text(canvas: Image, text: NDArray[np.uint8], position: tuple[int, int], grey: int) -> None:
    """Blend ``text`` onto ``canvas`` with its top left corner at ``position`` (y, x)."""
    y, x = position
    area = canvas[y : y + text.shape[0], x : x + text.shape[1]]
    opacity = text[..., None].astype(np.float32) / 255
    area[:] = np.rint(area * (1 - opacity) + grey * opacity)
