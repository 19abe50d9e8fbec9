"""The images on which two models agree least, drawn so that a person sees where and how."""

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

__all__ = ["WorstImages"]

_KEPT = 6
_GAP = 4
_LINE = 24
"""Pixels of height of a line of text."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK, _PAPER = (235, 235, 235), 30
_MARK = (0, 255, 255)
"""BGR of a pixel with two labels: yellow stands out of a dim grey image, for the colour-blind, too."""
_DIM = 0.4
_LEAST_WIDTH = 320
"""Of a panel, in pixels: what tiny models see is enlarged."""


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    name: str
    agreement: float
    image: Image
    reference: Labels
    candidate: Labels


class WorstImages:
    """Keeps the few images that agree least.

    Args:
        spec: of the models, for colours.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._overlay = Overlay(spec, OverlayOptions(alpha=0.7))
        self._kept: list[_Seen] = []

    def add(self, name: str, agreement: float, image: Image, reference: Labels, candidate: Labels) -> None:
        """Take an image, uint8 (H, W, C), and both labels of it, uint8 (h, w), which are kept and not copied."""
        # What all agree on shows nothing.
        if agreement < 1:
            bisect.insort(self._kept, _Seen(name, agreement, image, reference, candidate), key=lambda s: s.agreement)
            del self._kept[_KEPT:]

    def names(self) -> tuple[tuple[str, float], ...]:
        """Name and agreement of those that are kept, the worst first."""
        return tuple((seen.name, seen.agreement) for seen in self._kept)

    def write(self, folder: Path) -> None:
        """Write each as a PNG: image, reference, candidate, and where they differ, side by side.

        Raises:
            SinkError: the folder or a file cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = failure_reason(error)
            raise SinkError(f"cannot make the folder {folder} ({reason}): give another --worst") from error
        for place, seen in enumerate(self._kept, start=1):
            stem = re.sub(r"[^\w.-]+", "_", Path(seen.name).stem)[-60:]
            data = cv2.imencode(".png", self._draw(seen))[1].tobytes()
            write_bytes(folder / f"{place}-{100 * seen.agreement:.2f}-{stem}.png", data)

    def _draw(self, seen: _Seen) -> Image:
        """BGR, uint8 (H, W, 3)."""
        times = max(1, -(-_LEAST_WIDTH // seen.reference.shape[1]))
        labels = [np.kron(one, np.ones((times, times), np.uint8)) for one in (seen.reference, seen.candidate)]
        image = to_bgr(resize(seen.image, (labels[0].shape[0], labels[0].shape[1])))
        panels = {
            "image": image,
            "reference": self._overlay.draw(image, labels[0]),
            "candidate": self._overlay.draw(image, labels[1]),
            "where they differ": _mark(image, labels[0] != labels[1]),
        }
        gap = np.full((image.shape[0] + _LINE, _GAP, 3), _PAPER, np.uint8)
        columns: list[Image] = []
        for text, panel in panels.items():
            columns += [np.concatenate((_line(text, image.shape[1]), panel)), gap]
        body = np.concatenate(columns[:-1], axis=1)
        head = _line(f"{seen.name}: {seen.agreement:.2%} of the pixels agree", body.shape[1])
        return np.concatenate((head, body))


def _mark(image: Image, differ: NDArray[np.bool_]) -> Image:
    """The image in dim grey, with a colour where ``differ``, bool (H, W)."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    canvas = np.asarray(cv2.cvtColor(cv2.convertScaleAbs(grey, alpha=_DIM), cv2.COLOR_GRAY2BGR), np.uint8)
    canvas[differ] = _MARK
    return canvas


def _line(text: str, width: int) -> Image:
    """A line of light text on a dark ground, uint8 (_LINE, width, 3); only its end where it is too long."""
    (length, _), _ = cv2.getTextSize(text, _FONT, 0.5, 1)
    canvas = np.full((_LINE, width, 3), _PAPER, np.uint8)
    cv2.putText(canvas, text, (min(6, width - length - 6), _LINE - 7), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    return canvas
