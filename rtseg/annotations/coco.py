"""COCO annotations: one JSON document with images, categories and annotations.

Categories are numbered from 1, since some tools take 0 for the background. ``segmentation`` is a compressed run-length
code of all pixels of a class, as in COCO-Stuff, or the polygon of one connected area; a polygon with holes is one line
that leads into them and back, because COCO has no holes.

Source: "COCO, data format", sections 1 (object detection) and 3 (stuff segmentation).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.annotations.outlines import single_ring, trace_outlines
from rtseg.annotations.rle import class_runs, encode_string
from rtseg.annotations.shapes import AnnotatedImage, Annotations, Polygon, Runs, Shape
from rtseg.errors import DatasetError
from rtseg.frame import Labels
from rtseg.system.file_names import encode_text
from rtseg.system.read_file import read_text

__all__ = ["CocoDocument", "read_coco"]


class CocoDocument:
    """Makes a COCO document piece by piece: write ``begin``, then ``add`` for each image, then ``end``.

    Annotations come first, one on each line, and images last, so that only a few bytes for each image stay in memory.

    Args:
        classes: names; their index is the class ID.
        palette: RGB colour of each class.
        polygons: write polygons of connected areas; else run-length codes of classes.
        tolerance: of polygons; see ``trace_outlines``.
    """

    def __init__(
        self,
        classes: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
        *,
        polygons: bool = False,
        tolerance: float = 0.0,
    ) -> None:
        self._classes, self._palette = classes, palette
        self._polygons, self._tolerance = polygons, tolerance
        self._images: list[bytes] = []
        self._image_bytes = 0
        self._annotations = 0

    def begin(self) -> bytes:
        """The start of the document."""
        categories = [
            {"id": number, "name": name, "supercategory": "", "color": list(colour)}
            for number, (name, colour) in enumerate(zip(self._classes, self._palette, strict=True), start=1)
        ]
        head = _dump({"info": {"description": "labels by rtseg"}, "licenses": [], "categories": categories})
        return head[:-1] + b',"annotations":['

    def add(self, name: str, labels: Labels, facts: Mapping[str, Any] | None = None) -> bytes:
        """The annotations of one image.

        Args:
            name: file name of the image.
            labels: class IDs, uint8 (H, W).
            facts: further entries for the image, e.g. ``pts_s``.
        """
        height, width = labels.shape
        number = len(self._images) + 1
        image = {"id": number, "file_name": name, "width": width, "height": height, **(facts or {})}
        self._images.append(_dump(image))
        self._image_bytes += len(self._images[-1])
        lines = []
        for class_id, area, box, segmentation in self._areas(labels):
            entry = {"id": self._annotations + 1, "image_id": number, "category_id": class_id + 1, "iscrowd": 0}
            line = _dump(entry | {"area": area, "bbox": box, "segmentation": segmentation})
            lines.append((b",\n" if self._annotations else b"\n") + line)
            self._annotations += 1
        return b"".join(lines)

    @property
    def end_bytes(self) -> int:
        """Length of ``end``, in about: it grows with every image."""
        return self._image_bytes

    def end(self) -> bytes:
        """The end of the document, also for the images so far."""
        return b'\n],"images":[\n' + b",\n".join(self._images) + b"\n]}\n"

    def _areas(self, labels: Labels) -> Iterator[tuple[int, int, Sequence[float], Any]]:
        """Yield class ID, pixels, box and segmentation of each annotation."""
        if not self._polygons:
            for runs in class_runs(labels, len(self._classes)):
                code = {"size": list(labels.shape), "counts": encode_string(runs.counts)}
                yield runs.class_id, runs.area, runs.box, code
            return
        for outline in trace_outlines(labels, len(self._classes), self._tolerance):
            corners = [_short(value) for value in single_ring(outline).ravel().tolist()]
            yield outline.class_id, outline.area, [_short(value) for value in outline.box], [corners]


def _short(value: float) -> float:
    """A whole number without its fraction, to save a third of the file."""
    return int(value) if value.is_integer() else value


def _dump(entry: Any) -> bytes:
    return encode_text(json.dumps(entry, ensure_ascii=False, separators=(",", ":")))


def read_coco(path: Path) -> Annotations:
    """Read a COCO file of polygons and run-length codes. The classes are in the order of their IDs.

    Raises:
        DatasetError: it cannot be read, or is not of this format.
    """
    try:
        facts = json.loads(read_text(path))
        categories = sorted(facts["categories"], key=lambda category: int(category["id"]))
        names = {category["id"]: str(category["name"]) for category in categories}
        shapes: dict[Any, list[Shape]] = {image["id"]: [] for image in facts["images"]}
        for entry in facts["annotations"]:
            shapes[entry["image_id"]] += _shapes(names[entry["category_id"]], entry["segmentation"])
        images = [
            AnnotatedImage(str(entry["file_name"]), (int(entry["height"]), int(entry["width"])), tuple(shapes[key]))
            for key, entry in ((entry["id"], entry) for entry in facts["images"])
        ]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DatasetError(f"cannot read {path} ({reason}): --data coco:FILE.json needs a COCO file") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DatasetError(f"{path} is not a COCO file ({' '.join(repr(error).split())})") from error
    if len(set(names.values())) != len(names):
        raise DatasetError(f"{path} has two categories of one name: {', '.join(names.values())}")
    return Annotations({str(each["name"]): _colour(each.get("color")) for each in categories}, tuple(images))


def _shapes(label: str, segmentation: Any) -> list[Shape]:
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        return [Runs(label, counts if isinstance(counts, str) else tuple(map(int, counts)))]
    return [Polygon(label, (np.array(line, np.float64).reshape(-1, 2),)) for line in segmentation]


def _colour(stored: Any) -> tuple[int, int, int] | None:
    if isinstance(stored, list) and len(stored) == 3 and all(type(v) is int and 0 <= v <= 255 for v in stored):
        return stored[0], stored[1], stored[2]
    return None
