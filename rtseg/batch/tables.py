"""Sinks that write the results of a segment as Parquet: class shares and run-length codes."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.annotations.rle import class_runs, encode_string
from rtseg.batch.manifest import load_pyarrow
from rtseg.frame import Frame, Image, Labels
from rtseg.metrics.class_shares import class_shares
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks.base import Sink
from rtseg.system.atomic_files import sink_errors
from rtseg.system.opencv import cv2

__all__ = ["MaskTableSink", "ShareTableSink", "TableSink", "count_components"]


class TableSink(Sink):
    """Collects rows, and writes them to a Parquet file when it is closed; no file without a frame.

    Args:
        path: the file to write.
        name: see ``Sink``.
    """

    needs_rendered = False

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._closed = False

    @abstractmethod
    def _columns(self, pa: Any) -> dict[str, Any]:
        """The columns by name, as arrays of ``pa``, which is pyarrow."""

    def close(self) -> None:
        """Write the file; see ``Sink``."""
        if self._closed or not self.written:
            return
        self._closed = True
        pa, parquet = load_pyarrow()
        with sink_errors(self.path):
            parquet.write_table(pa.table(self._columns(pa)), self.path)


class ShareTableSink(TableSink):
    """Writes one row for each frame and class: ``source``, ``segment``, ``frame``, ``pts_s``, ``class``, ``share`` of
    the labelled pixels in [0, 1], and ``components``, the number of connected areas.
    """

    kind = "shares"

    def __init__(self, path: Path, spec: ModelSpec, source: str, segment: int) -> None:
        super().__init__(path, f"shares {path}")
        self._classes, self._source, self._segment = spec.classes, source, segment
        self._frames: list[int] = []
        self._times: list[float] = []
        self._shares: list[NDArray[np.float64]] = []
        self._components: list[list[int]] = []

    @property
    def total(self) -> NDArray[np.float64]:
        """The sum of the shares of each class over all frames, float64 (classes,)."""
        return np.asarray(np.sum(self._shares, axis=0), np.float64)

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """See ``Sink``."""
        shares = class_shares(labels, len(self._classes))
        self._frames.append(frame.index)
        self._times.append(frame.pts_s)
        self._shares.append(shares)
        self._components.append(count_components(labels, shares))
        self.written += 1

    def _columns(self, pa: Any) -> dict[str, Any]:
        classes, rows = len(self._classes), len(self._frames) * len(self._classes)
        names = pa.array(self._classes, pa.string())
        ids = pa.array(np.tile(np.arange(classes, dtype=np.int32), len(self._frames)))
        return {
            "source": _constant(pa, self._source, rows),
            "segment": pa.array(np.full(rows, self._segment, np.int32)),
            "frame": pa.array(np.repeat(np.asarray(self._frames, np.int64), classes)),
            "pts_s": pa.array(np.repeat(np.asarray(self._times), classes)),
            "class": pa.DictionaryArray.from_arrays(ids, names),
            "share": pa.array(np.concatenate(self._shares)),
            "components": pa.array(np.asarray(self._components, np.int32).ravel()),
        }


class MaskTableSink(TableSink):
    """Writes one row for each frame and class that occurs in it, with its COCO run-length code (compressed).

    Columns: ``source``, ``segment``, ``frame``, ``pts_s``, ``class``, ``height``, ``width``, ``counts``, ``area`` in
    pixels, ``bbox`` as x, y, width, height.
    """

    kind = "masks"

    def __init__(self, path: Path, spec: ModelSpec, source: str, segment: int) -> None:
        super().__init__(path, f"masks {path}")
        self._classes, self._source, self._segment = spec.classes, source, segment
        self._rows: list[tuple[Any, ...]] = []

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """See ``Sink``."""
        height, width = labels.shape
        for runs in class_runs(labels, len(self._classes)):
            code = encode_string(runs.counts)
            self._rows.append((frame.index, frame.pts_s, runs.class_id, height, width, code, runs.area, runs.box))
        self.written += 1

    def _columns(self, pa: Any) -> dict[str, Any]:
        frames, times, ids, heights, widths, codes, areas, boxes = list(zip(*self._rows, strict=True)) or ((),) * 8
        return {
            "source": _constant(pa, self._source, len(frames)),
            "segment": pa.array(np.full(len(frames), self._segment, np.int32)),
            "frame": pa.array(frames, pa.int64()),
            "pts_s": pa.array(times, pa.float64()),
            "class": pa.DictionaryArray.from_arrays(pa.array(ids, pa.int32()), pa.array(self._classes, pa.string())),
            "height": pa.array(heights, pa.int32()),
            "width": pa.array(widths, pa.int32()),
            "counts": pa.array(codes, pa.string()),
            "area": pa.array(areas, pa.int64()),
            "bbox": pa.array([list(box) for box in boxes], pa.list_(pa.int32(), 4)),
        }


def count_components(labels: Labels, shares: NDArray[np.float64]) -> list[int]:
    """Count the connected areas (8 neighbours) of each class in ``labels``, uint8 (H, W), of which ``shares`` occur.

    Rows and columns that are equal to the one before are left out, which changes no area into two or two into one:
    labels are upsampled, so that most of them are.
    """
    labels = labels[_changes(labels)]
    columns = np.ascontiguousarray(labels.T)
    labels = np.ascontiguousarray(columns[_changes(columns)])  # transposed, which does not matter
    counts = []
    for class_id, share in enumerate(shares):
        if share == 0:
            counts.append(0)
            continue
        mask = cv2.inRange(labels, class_id, class_id)
        left, top, width, height = cv2.boundingRect(mask)
        areas, _ = cv2.connectedComponents(mask[top : top + height, left : left + width], connectivity=8)
        counts.append(areas - 1)
    return counts


def _changes(labels: Labels) -> NDArray[np.bool_]:
    """For each row whether it differs from the one before, bool (H,)."""
    differs = np.ones(len(labels), bool)
    np.any(labels[1:] != labels[:-1], axis=1, out=differs[1:])
    return differs


def _constant(pa: Any, text: str, rows: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text], pa.string()))
