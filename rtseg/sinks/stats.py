"""Statistics of every frame, as JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from rtseg.frame import Frame, Labels
from rtseg.metrics.class_shares import class_shares
from rtseg.model_file.spec import ModelSpec
from rtseg.regions.masks import Regions
from rtseg.sinks._stream_to_file import FileSink
from rtseg.sinks.base import Sink
from rtseg.system.file_names import encode_text

__all__ = ["CsvStatsSink", "StatsSink", "frame_shares", "open_stats", "stats_columns"]

_FRAME_COLUMNS = ("index", "pts_s", "name")


def open_stats(path: Path, spec: ModelSpec, *, regions: Regions | None = None, overwrite: bool = False) -> Sink:
    """Open the sink that the suffix of ``path`` asks for: ``.csv``, ``.parquet``, or JSON lines for any other one.

    Raises:
        MissingExtra: Parquet without the package that writes it.
        SinkError: see ``StatsSink``.
    """
    if path.suffix.lower() == ".csv":
        return CsvStatsSink(path, spec, regions=regions, overwrite=overwrite)
    if path.suffix.lower() == ".parquet":
        from rtseg.sinks.parquet import ParquetStatsSink

        return ParquetStatsSink(path, spec, regions=regions, overwrite=overwrite)
    return StatsSink(path, spec, regions=regions, overwrite=overwrite)


class StatsSink(FileSink):
    """Writes one line per frame: ``{"index": 7, "pts_s": 0.28, "classes": {"Road": 0.31, ...}}``.

    The line of an image from a folder also has its ``name``, and with regions there is one more key: ``"regions":
    {"gate": {"Road": 0.7, ...}}``. The shares, in [0, 1], are relative to the pixels that
    have a class. Each line is written immediately, so ``tail -f NAME.part.SUFFIX`` follows a run.
    """

    kind = "stats"

    def __init__(self, path: Path, spec: ModelSpec, *, regions: Regions | None = None, overwrite: bool = False) -> None:
        """Create the file, under its part name.

        Args:
            path: the file to write.
            spec: of the model that makes the labels.
            regions: of the run. Those with a name get shares of their own; a table has columns for the present ones.
            overwrite: whether an existing file may be replaced.

        Raises:
            OutputExists: there is such a file, and it must not be replaced.
            SinkError: it cannot be written, or another run is writing it.
        """
        super().__init__(path, f"statistics {path}", unit="lines", overwrite=overwrite)
        self._classes = spec.classes
        self._regions = regions or Regions()
        self._columns = self._regions.names

    def begin(self) -> bytes:
        """See ``FileSink``."""
        return b""

    def encode(self, frame: Frame, labels: Labels) -> bytes:
        """See ``FileSink``."""
        name = {} if frame.name is None else {"name": frame.name}
        shares = frame_shares(labels, len(self._classes))
        classes = dict(zip(self._classes, shares, strict=True))
        line = {"index": frame.index, "pts_s": round(frame.pts_s, 6), **name, "classes": classes}
        of_regions = self._shares_of_regions(labels)
        if of_regions:
            line["regions"] = {
                region: dict(zip(self._classes, values, strict=True)) for region, values in of_regions.items()
            }
        return encode_text(json.dumps(line, ensure_ascii=False) + "\n")

    def _shares_of_regions(self, labels: Labels) -> dict[str, list[float]]:
        masks = self._regions.named(labels.shape)
        return {name: frame_shares(mask.crop(labels), len(self._classes)) for name, mask in masks.items()}


class CsvStatsSink(StatsSink):
    """Writes one row per frame: its index, its time in seconds, its name if it has one, and the share of each class.

    Columns of regions are named ``gate/Road``; they are empty where the region was removed during the run.
    """

    def begin(self) -> bytes:
        """See ``FileSink``."""
        of_regions = (f"{region}/{name}" for region in self._columns for name in self._classes)
        return _csv_row((*stats_columns(self._classes), *of_regions))

    def encode(self, frame: Frame, labels: Labels) -> bytes:
        """See ``FileSink``."""
        shares = frame_shares(labels, len(self._classes))
        found = self._shares_of_regions(labels) if self._columns else {}
        of_regions = (value for region in self._columns for value in found.get(region, [""] * len(self._classes)))
        return _csv_row((frame.index, round(frame.pts_s, 6), frame.name or "", *shares, *of_regions))


def stats_columns(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a table: the class names after those of the frame. A class with one of these gets ``class``."""
    return (*_FRAME_COLUMNS, *(f"class {name}" if name in _FRAME_COLUMNS else name for name in classes))


def frame_shares(labels: Labels, classes: int) -> list[float]:
    """The share of each class in the labelled pixels, in [0, 1], with five decimals."""
    return [round(share, 5) for share in class_shares(labels, classes).tolist()]


def _csv_row(values: tuple[object, ...]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return encode_text(out.getvalue())
