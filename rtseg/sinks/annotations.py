"""The labels of a run in one annotation file: run-length codes or polygons."""

from __future__ import annotations

import math
from pathlib import Path

from rtseg.annotations.coco import CocoDocument
from rtseg.annotations.geojson import GeoJsonDocument
from rtseg.errors import OptionError
from rtseg.frame import Frame, Labels
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks._stream_to_file import FileSink, frame_name

__all__ = ["AnnotationSink", "open_coco_masks", "open_polygons"]


def open_coco_masks(path: Path, spec: ModelSpec, *, overwrite: bool = False) -> AnnotationSink:
    """Open a COCO file of run-length codes; see ``AnnotationSink``."""
    return AnnotationSink("masks", path, CocoDocument(spec.classes, spec.palette), overwrite=overwrite)


def open_polygons(path: Path, spec: ModelSpec, *, tolerance: float, overwrite: bool = False) -> AnnotationSink:
    """Open a file of polygons: GeoJSON where ``path`` ends in ``.geojson``, COCO where it ends in ``.json``.

    Raises:
        OptionError: another suffix, or a negative tolerance.
        SinkError: see ``FileSink``.
    """
    document: CocoDocument | GeoJsonDocument
    if not 0 <= tolerance < math.inf:
        raise OptionError(f"--tolerance must be a number of pixels from 0, got {tolerance:g}")
    if path.suffix.lower() == ".geojson":
        document = GeoJsonDocument(spec.classes, tolerance=tolerance)
    elif path.suffix.lower() == ".json":
        document = CocoDocument(spec.classes, spec.palette, polygons=True, tolerance=tolerance)
    else:
        raise OptionError(f"--polygons {path}: end its name in .geojson, or in .json for COCO")
    return AnnotationSink("polygons", path, document, overwrite=overwrite)


class AnnotationSink(FileSink):
    """Writes the labels of every frame into one annotation file: COCO or GeoJSON.

    A GeoJSON file is complete after every frame. A COCO file is complete at any time, but the newest frames, a few in a
    hundred, come later: its end has a line for each frame.
    """

    def __init__(
        self, kind: str, path: Path, document: CocoDocument | GeoJsonDocument, *, overwrite: bool = False
    ) -> None:
        """Create the file, under its part name; see ``FileSink``.

        Args:
            kind: ``masks`` or ``polygons``.
            path: the file to write.
            document: encodes the labels.
            overwrite: whether an existing file may be replaced.
        """
        super().__init__(path, f"{kind} {path}", unit="frames", overwrite=overwrite)
        self.kind = kind
        self._document = document

    def begin(self) -> bytes:
        """See ``FileSink``."""
        return self._document.begin()

    def encode(self, frame: Frame, labels: Labels) -> bytes:
        """See ``FileSink``."""
        return self._document.add(frame_name(frame), labels, {"frame": frame.index, "pts_s": round(frame.pts_s, 6)})

    @property
    def end_bytes(self) -> int:
        """See ``FileSink``."""
        return self._document.end_bytes

    def end(self) -> bytes:
        """See ``FileSink``."""
        return self._document.end()
