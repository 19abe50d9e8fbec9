"""Key images of a segment: the few frames that are worth looking at, with their labels drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.batch.tables import TableSink
from rtseg.frame import Frame, Image, Labels
from rtseg.metrics.class_shares import class_shares
from rtseg.model_file.spec import ModelSpec
from rtseg.pipeline.scene_cuts import CutDetector
from rtseg.system.atomic_files import sink_errors
from rtseg.system.opencv import cv2
from rtseg.visualize.overlay import Overlay, OverlayOptions

__all__ = ["KeyframeSink"]

_CHANGE = 0.2
"""Part of the frame whose class has changed in sum since the last key image, in [0, 1], that makes another one."""
_SHORTEST_S = 1.0
"""Least time from one key image to the next."""
_QUALITY = 90


class KeyframeSink(TableSink):
    """Writes ``keyframes/FRAME.jpg`` and ``keyframes.parquet``, one row for each of them.

    Key images are the first frame of the segment (``segment``), the first one of each scene (``cut``), and frames whose
    class shares differ from those of the last key image by at least 0.2 (``change``): half the sum of the absolute
    differences, which is the total variation distance. They are at least 1 s apart.

    Columns: ``source``, ``segment``, ``frame``, ``pts_s``, ``reason``, ``change`` (the difference above, null for the
    first one), ``image`` (path of the file, from the output folder).

    Args:
        folder: where to write.
        name: of that folder when it is complete, from the output folder.
        spec: of the model.
        alpha: weight of the class colours, from 0 to 1.
        source: of the frames.
        segment: its number.
    """

    kind = "keyframes"

    def __init__(self, folder: Path, name: str, spec: ModelSpec, alpha: float, source: str, segment: int) -> None:
        super().__init__(folder / "keyframes.parquet", f"key images {folder}")
        self._folder, self._relative = folder, name
        self._classes, self._source, self._segment = len(spec.classes), source, segment
        self._overlay = Overlay(spec, OverlayOptions(alpha=alpha))
        self._is_cut = CutDetector(gap_s=float("inf"))
        self._pending = ""
        """Why the next frame is one, if the last one is not too near."""
        self._shares: NDArray[np.float64] | None = None
        self._rows: list[tuple[Any, ...]] = []

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """See ``Sink``."""
        is_cut, shares = self._is_cut(frame.image, frame.pts_s), class_shares(labels, self._classes)
        change = None if self._shares is None else float(np.abs(shares - self._shares).sum()) / 2
        self.written += 1
        if change is None:
            self._pending = "segment"
        elif is_cut:
            self._pending = "cut"
        reason = self._pending or ("change" if change is not None and change >= _CHANGE else "")
        if not reason or (self._rows and frame.pts_s - self._rows[-1][1] < _SHORTEST_S):
            return
        image = self._write_image(frame, labels)
        self._rows.append((frame.index, frame.pts_s, reason, change, image))
        self._pending, self._shares = "", shares

    def _write_image(self, frame: Frame, labels: Labels) -> str:
        name = f"keyframes/{frame.index:06d}.jpg"
        path = self._folder / name
        drawn = self._overlay.draw(frame.image, labels)
        data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        with sink_errors(path):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        return f"{self._relative}/{name}"

    def _columns(self, pa: Any) -> dict[str, Any]:
        frames, times, reasons, changes, images = zip(*self._rows, strict=True)
        return {
            "source": pa.array([self._source] * len(frames), pa.string()),
            "segment": pa.array([self._segment] * len(frames), pa.int32()),
            "frame": pa.array(frames, pa.int64()),
            "pts_s": pa.array(times, pa.float64()),
            "reason": pa.array(reasons, pa.string()),
            "change": pa.array(changes, pa.float64()),
            "image": pa.array(images, pa.string()),
        }
