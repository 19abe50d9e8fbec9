"""Drawings of the images on which two models disagree most."""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import SinkError
from rtseg.frame import Image, Labels
from rtseg.image_io.decode import to_bgr
from rtseg.model_file.spec import ModelSpec
from rtseg.preprocess import resize
from rtseg.system.atomic_files import failure_reason, write_bytes
from rtseg.system.opencv import cv2
from rtseg.visualize.overlay import Overlay, OverlayOptions

__all__ = ["LabelDifferences"]

_MAX_IMAGES = 6
_GAP = 4
_LINE_HEIGHT = 24
"""Height of a line of text, in pixels."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT_COLOUR, _BACKGROUND = (235, 235, 235), 30
_DIFFERENCE_COLOUR = (0, 255, 255)
"""BGR of a pixel with two different labels: yellow stands out from dim grey, also for colour-blind readers."""
_DIM = 0.4
_MIN_PANEL_WIDTH = 320
"""In pixels; smaller label maps are upsampled."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    name: str
    agreement: float
    image: Image
    reference: Labels
    candidate: Labels


class LabelDifferences:
    """Keeps the few images with the lowest agreement.

    Args:
        spec: Metadata of the models, for the colours.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._overlay = Overlay(spec, OverlayOptions(alpha=0.7))
        self._entries: list[_Entry] = []

    def add(self, name: str, agreement: float, image: Image, reference: Labels, candidate: Labels) -> None:
        """Add an image, uint8 (H, W, C), and both label maps, uint8 (h, w). They are not copied.

        Images with full agreement are ignored.
        """
        if agreement < 1:
            entry = _Entry(name, agreement, image, reference, candidate)
            bisect.insort(self._entries, entry, key=lambda kept: kept.agreement)
            del self._entries[_MAX_IMAGES:]

    def names(self) -> tuple[tuple[str, float], ...]:
        """Return name and agreement of the kept images, lowest agreement first."""
        return tuple((entry.name, entry.agreement) for entry in self._entries)

    def write(self, folder: Path) -> None:
        """Write one PNG per image: image, reference, candidate and their differences side by side.

        Raises:
            SinkError: The folder or a file cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = failure_reason(error)
            raise SinkError(f"cannot create the folder {folder} ({reason}): give another --worst") from error
        for rank, entry in enumerate(self._entries, start=1):
            stem = re.sub(r"[^\w.-]+", "_", Path(entry.name).stem)[-60:]
            data = cv2.imencode(".png", self._draw(entry))[1].tobytes()
            write_bytes(folder / f"{rank}-{100 * entry.agreement:.2f}-{stem}.png", data)

    def _draw(self, entry: _Entry) -> Image:
        """BGR, uint8 (H, W, 3)."""
        factor = max(1, -(-_MIN_PANEL_WIDTH // entry.reference.shape[1]))
        upsample = np.ones((factor, factor), np.uint8)
        labels = [np.kron(label_map, upsample) for label_map in (entry.reference, entry.candidate)]
        image = to_bgr(resize(entry.image, (labels[0].shape[0], labels[0].shape[1])))
        panels = {
            "image": image,
            "reference": self._overlay.draw(image, labels[0]),
            "candidate": self._overlay.draw(image, labels[1]),
            "differences": _mark_differences(image, labels[0] != labels[1]),
        }
        gap = np.full((image.shape[0] + _LINE_HEIGHT, _GAP, 3), _BACKGROUND, np.uint8)
        columns: list[Image] = []
        for text, panel in panels.items():
            columns += [np.concatenate((_draw_line(text, image.shape[1]), panel)), gap]
        body = np.concatenate(columns[:-1], axis=1)
        head = _draw_line(f"{entry.name}: {entry.agreement:.2%} of the pixels agree", body.shape[1])
        return np.concatenate((head, body))


def _mark_differences(image: Image, differ: NDArray[np.bool_]) -> Image:
    """Return the image in dim grey, with a colour where ``differ``, bool (H, W)."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    canvas = np.asarray(cv2.cvtColor(cv2.convertScaleAbs(grey, alpha=_DIM), cv2.COLOR_GRAY2BGR), np.uint8)
    canvas[differ] = _DIFFERENCE_COLOUR
    return canvas


def _draw_line(text: str, width: int) -> Image:
    """Draw a line of text, uint8 (_LINE_HEIGHT, width, 3). Only the end of a long text is visible."""
    (length, _), _ = cv2.getTextSize(text, _FONT, 0.5, 1)
    canvas = np.full((_LINE_HEIGHT, width, 3), _BACKGROUND, np.uint8)
    cv2.putText(canvas, text, (min(6, width - length - 6), _LINE_HEIGHT - 7), _FONT, 0.5, _TEXT_COLOUR, 1, cv2.LINE_AA)
    return canvas
