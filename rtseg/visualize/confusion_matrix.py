"""The confusion matrix for people: a table for spreadsheets, an image for the eye."""

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
"""Pixels of free space around everything."""
_LARGEST_NAME = 220
"""Pixels that the name of a class may take; a longer one is cut."""
_INK, _FAINT, _PAPER, _UNSEEN = 40, 110, 255, 225
"""Grey of names, of remarks, of the ground, and of the row of a class that the truth lacks."""
_SCALE = np.array([(255, 255, 255), (225, 190, 150), (160, 90, 40), (85, 30, 10)], np.float64)
"""BGR of the shares 0, 1/3, 2/3 and 1: a dark blue that stays apart from white in print and to the colour-blind."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Measures of a matrix of some size."""

    cell: int
    """Pixels of the side of a square."""
    font: float
    """Font scale of the figures; 0 for none, where no figure is readable."""
    decimals: int
    """Of a percentage."""


def check_confusion_path(path: Path) -> None:
    """Find out before a long run whether ``write_confusion`` knows the kind of file.

    Raises:
        OptionError: the name ends neither in .csv nor in .png.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"--confusion {path} must end in {' or '.join(_SUFFIXES)}: give such a name")


def write_confusion(path: Path, counts: Sequence[Sequence[int]], classes: tuple[str, ...], title: str) -> None:
    """Write a confusion matrix as a table (.csv) or as an image (.png).

    Args:
        path: the file; what stood there is replaced.
        counts: of pixels, C x C: rows are truth, columns are prediction.
        classes: their names.
        title: what the image is headed with.

    Raises:
        OptionError: the name ends otherwise.
        SinkError: it cannot be written.
    """
    check_confusion_path(path)
    matrix = np.array(counts, np.int64)
    if path.suffix.lower() == ".csv":
        write_bytes(path, confusion_csv(matrix, classes).encode())
    else:
        write_bytes(path, cv2.imencode(".png", draw_confusion(matrix, classes, title))[1].tobytes())


def confusion_csv(matrix: NDArray[np.int64], classes: tuple[str, ...]) -> str:
    """Pixel counts as comma-separated values, a row for each class of the truth, a column for each that was predicted.

    The first row and the first column hold the names of the classes.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["truth \\ prediction", *classes])
    table.writerows([name, *counts] for name, counts in zip(classes, matrix.tolist(), strict=True))
    return text.getvalue()


def draw_confusion(matrix: NDArray[np.int64], classes: tuple[str, ...], title: str) -> Image:
    """Draw a heat map: each square is the share of a class's pixels (row) that got a label (column), in percent.

    A share that rounds to 0 stays empty, and so does the row of a class that the truth lacks, in grey.

    Args:
        matrix: pixel counts, int64 (C, C): rows are truth, columns are prediction.
        classes: their names.
        title: the first line.

    Returns:
        BGR, uint8 (H, W, 3).
    """
    look = _look(len(classes))
    names = [_name(text) for text in classes]
    remark = "rows: truth, columns: prediction, in % of the row's pixels"
    if not matrix.any(1).all():
        remark += "; grey: not in the truth"
    heads = [_text(title, 0.55), _text(remark, 0.42)]
    side = look.cell * len(classes) + 1
    margin = max(name.shape[1] for name in names) + 2 * _GAP
    top = sum(head.shape[0] + _GAP for head in heads) + margin
    width = max(margin + side + _GAP, *(head.shape[1] + 2 * _GAP for head in heads))
    canvas = np.full((top + side + _GAP, width, 3), _PAPER, np.uint8)

    y = _GAP
    for head, grey in zip(heads, (_INK, _FAINT), strict=True):
        _ink(canvas, head, (y, _GAP), grey)
        y += head.shape[0] + _GAP
    for place, name in enumerate(names):
        middle = place * look.cell + (look.cell - name.shape[0]) // 2
        _ink(canvas, name, (top + middle, margin - _GAP // 2 - name.shape[1]), _INK)
        upwards = np.rot90(name)
        _ink(canvas, upwards, (top - _GAP // 2 - upwards.shape[0], margin + middle), _INK)
    _draw_squares(canvas[top : top + side, margin : margin + side], matrix, look)
    return canvas


def _draw_squares(canvas: Image, matrix: NDArray[np.int64], look: _Look) -> None:
    totals = matrix.sum(1)
    for row, total in enumerate(totals):
        for column, count in enumerate(matrix[row]):
            y, x = row * look.cell + 1, column * look.cell + 1
            square = canvas[y : y + look.cell - 1, x : x + look.cell - 1]
            if not total:
                square[:] = _UNSEEN
                continue
            share = count / total
            square[:] = _colour(share)
            figure = f"{100 * share:.{look.decimals}f}"
            if look.font and float(figure) > 0:
                text = _text(figure, look.font)
                place = ((square.shape[0] - text.shape[0]) // 2, (square.shape[1] - text.shape[1]) // 2)
                _ink(square, text, place, _PAPER if share > 0.45 else _INK)
    canvas[:: look.cell] = canvas[:, :: look.cell] = _UNSEEN


def _look(classes: int) -> _Look:
    """Large squares for few classes; for very many, squares alone, in an image of some thousand pixels."""
    if classes <= 12:
        return _Look(64, 0.5, 1)
    return _Look(40, 0.42, 0) if classes <= 60 else _Look(18, 0.0, 0)


def _colour(share: float) -> NDArray[np.uint8]:
    """BGR of a share in [0, 1], uint8 (3,)."""
    stops = np.linspace(0, 1, len(_SCALE))
    return np.array([round(np.interp(share, stops, channel)) for channel in _SCALE.T], np.uint8)


def _name(text: str) -> NDArray[np.uint8]:
    """The name of a class, cut where it is too long."""
    name = _text(text, 0.45)
    while name.shape[1] > _LARGEST_NAME:
        text = text[:-1]
        name = _text(f"{text}..", 0.45)
    return name


def _text(text: str, font: float) -> NDArray[np.uint8]:
    """How much of each pixel a line of text covers, 0..255, uint8 (h, w)."""
    (width, _), _ = cv2.getTextSize(text, _FONT, font, 1)
    (_, height), below = cv2.getTextSize("Hg", _FONT, font, 1)
    canvas = np.zeros((height + below, width + 2), np.uint8)
    cv2.putText(canvas, text, (1, height), _FONT, font, (255,), 1, cv2.LINE_AA)
    return canvas


def _ink(canvas: Image, text: NDArray[np.uint8], place: tuple[int, int], grey: int) -> None:
    """Put ``text`` of some grey on a part of ``canvas`` that begins at ``place`` (y, x)."""
    y, x = place
    part = canvas[y : y + text.shape[0], x : x + text.shape[1]]
    cover = text[..., None].astype(np.float32) / 255
    part[:] = np.rint(part * (1 - cover) + grey * cover)
