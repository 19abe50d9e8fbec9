"""Annotations of predicted images for other tools: the files of ``rtseg predict --format``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from rtseg.annotations.coco import CocoDocument
from rtseg.annotations.cvat import CvatDocument
from rtseg.annotations.labelme import labelme_file
from rtseg.annotations.yolo import yolo_data_file, yolo_lines
from rtseg.errors import SinkError
from rtseg.frame import Labels
from rtseg.image_io.indexed_png import palette_png
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks.masks import mask_palette
from rtseg.system.atomic_files import create_folder, failure_reason, write_bytes, write_text
from rtseg.system.part_file import PartFile

__all__ = ["AnnotationWriter", "annotation_files", "open_annotations"]

_DOCUMENTS: Final = {"coco": "annotations.json", "cvat": "annotations.xml"}
"""Formats with one file for all images."""
_FOLDERS: Final = {"labelme": ("labelme", ".json"), "yolo": ("labels", ".txt"), "voc": ("SegmentationClass", ".png")}
"""Formats with a file for each image: its folder and suffix."""
_TABLES: Final = {"yolo": ("data.yaml",), "voc": ("labelmap.txt", "ImageSets/Segmentation/default.txt")}
"""Further files of a format."""


class AnnotationWriter(Protocol):
    """Writes the annotations of a run."""

    def add(self, image: Path, name: str, stem: Path, labels: Labels) -> Path:
        """Write those of one image; return the file that holds them.

        Args:
            image: its path.
            name: its path relative to the folder that all images have in common.
            stem: unique path for its results, without a suffix.
            labels: class IDs, uint8 (H, W).

        Raises:
            SinkError: they cannot be written.
        """

    def close(self) -> None:
        """Finish what belongs to all images.

        Raises:
            SinkError: it cannot be written.
        """


def annotation_files(kind: str, output: Path, stems: Sequence[Path]) -> list[Path]:
    """The files that ``open_annotations`` writes for images with these stems."""
    if kind in _DOCUMENTS:
        return [output / _DOCUMENTS[kind]]
    folder, suffix = _FOLDERS[kind]
    return [
        *(output / folder / f"{stem}{suffix}" for stem in stems),
        *(output / name for name in _TABLES.get(kind, ())),
    ]


def open_annotations(
    kind: str, output: Path, spec: ModelSpec, *, tolerance: float, overwrite: bool = False
) -> AnnotationWriter:
    """Open the annotations of a run.

    Args:
        kind: ``coco``, ``cvat``, ``labelme``, ``voc`` or ``yolo``.
        output: folder for the files.
        spec: of the model that makes the labels.
        tolerance: of polygons, in pixels.
        overwrite: whether existing files may be replaced.
    """
    if kind in _DOCUMENTS:
        return _Document(kind, output / _DOCUMENTS[kind], spec, tolerance, overwrite=overwrite)
    return _Folder(kind, output, spec, tolerance)


class _Document:
    """One file for all images. Its part file is created with the first image."""

    def __init__(self, kind: str, path: Path, spec: ModelSpec, tolerance: float, *, overwrite: bool) -> None:
        self._path, self._overwrite = path, overwrite
        self._document: CocoDocument | CvatDocument
        if kind == "coco":
            self._document = CocoDocument(spec.classes, spec.palette, polygons=True, tolerance=tolerance)
        else:
            self._document = CvatDocument(spec.classes, spec.palette, tolerance=tolerance)
        self._file: PartFile | None = None

    def add(self, image: Path, name: str, stem: Path, labels: Labels) -> Path:
        data = self._document.add(Path(name).as_posix(), labels)
        if self._file is None:
            create_folder(self._path.parent)
            self._file = PartFile(self._path, f"--output {self._path}", overwrite=self._overwrite)
            data = self._document.begin() + data
        self._write(self._file, data)
        return self._path

    def close(self) -> None:
        if self._file is not None:
            self._write(self._file, self._document.end())
            try:
                self._file.commit()
            except OSError as error:
                raise self._fail(self._file, error) from error

    def _write(self, file: PartFile, data: bytes) -> None:
        try:
            file.write(data)
            file.mark()
        except OSError as error:
            raise self._fail(file, error) from error

    def _fail(self, file: PartFile, error: OSError) -> SinkError:
        file.keep()
        self._file = None  # what is left of it is not a document
        return SinkError(f"cannot write {self._path}, {failure_reason(error)}: give another --output")


class _Folder:
    """A file for each image."""

    def __init__(self, kind: str, output: Path, spec: ModelSpec, tolerance: float) -> None:
        self._kind, self._output, self._spec, self._tolerance = kind, output, spec, tolerance
        self._folder, self._suffix = _FOLDERS[kind]
        self._palette = mask_palette(spec)
        self._stems: list[str] = []

    def add(self, image: Path, name: str, stem: Path, labels: Labels) -> Path:
        path = self._output / self._folder / f"{stem}{self._suffix}"
        create_folder(path.parent)
        write_bytes(path, self._content(image, path, labels))
        self._stems.append(stem.as_posix())
        return path

    def close(self) -> None:
        if not self._stems:
            return
        for name in _TABLES.get(self._kind, ()):
            create_folder((self._output / name).parent)
            write_text(self._output / name, self._table(name))

    def _content(self, image: Path, path: Path, labels: Labels) -> bytes:
        classes = self._spec.classes
        if self._kind == "voc":
            return palette_png(labels, self._palette)
        if self._kind == "yolo":
            return yolo_lines(labels, len(classes), self._tolerance).encode()
        relative = os.path.relpath(os.path.realpath(image), os.path.realpath(path.parent))
        return labelme_file(Path(relative).as_posix(), labels, classes, self._tolerance)

    def _table(self, name: str) -> str:
        if self._kind == "yolo":
            return yolo_data_file(self._spec.classes)
        if name == "labelmap.txt":
            colours = (",".join(map(str, colour)) for colour in self._spec.palette)
            lines = [f"{label}:{colour}::" for label, colour in zip(self._spec.classes, colours, strict=True)]
            return "\n".join(("# label:color_rgb:parts:actions", *lines, ""))
        return "".join(f"{stem}\n" for stem in self._stems)
