"""LabelMe: a JSON file beside each image.

Source: labelme, "labelme/label_file.py" and "labelme/utils/shape.py".
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.annotations.outlines import single_ring, trace_outlines
from rtseg.annotations.shapes import AnnotatedImage, Annotations, Bitmap, Polygon, Shape
from rtseg.errors import DatasetError
from rtseg.frame import Labels
from rtseg.system.file_names import encode_text
from rtseg.system.opencv import cv2
from rtseg.system.read_file import read_text

__all__ = ["labelme_file", "read_labelme"]

_VERSION = "5.5.0"
_CIRCLE_CORNERS = 360


def labelme_file(image_path: str, labels: Labels, classes: Sequence[str], tolerance: float = 0.0) -> bytes:
    """Return the file for one image: a polygon for each area. A hole is reached by a line of no width.

    Args:
        image_path: of the image, relative to the file.
        labels: class IDs, uint8 (H, W).
        classes: names; their index is the class ID.
        tolerance: of polygons; see ``trace_outlines``.
    """
    shapes = [
        {
            "label": classes[outline.class_id],
            "points": single_ring(outline).tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for outline in trace_outlines(labels, len(classes), tolerance)
    ]
    height, width = labels.shape
    facts: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
    }
    size = {"imageHeight": height, "imageWidth": width}
    return encode_text(json.dumps(facts | size, ensure_ascii=False) + "\n")


def read_labelme(folder: Path) -> Annotations:
    """Read all files of a folder and of the folders in it; polygons, boxes, circles and masks count.

    The classes are in alphabetical order, as a folder does not define one. Images are relative to ``folder``.

    Raises:
        DatasetError: there are no files, one cannot be read, or is not of this format.
    """
    images = [_read_file(path, folder) for path in sorted(folder.rglob("*.json"))]
    if not images:
        raise DatasetError(f"{folder} contains no .json file of LabelMe: check the path")
    names = sorted({shape.label for image in images for shape in image.shapes})
    return Annotations(dict.fromkeys(names), tuple(images))


def _read_file(path: Path, folder: Path) -> AnnotatedImage:
    try:
        facts = json.loads(read_text(path))
        name = os.path.relpath(path.parent / facts["imagePath"].replace("\\", "/"), folder)
        size = (int(facts["imageHeight"]), int(facts["imageWidth"]))
        return AnnotatedImage(name, size, tuple(_shapes(facts["shapes"])))
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DatasetError(f"{path} is not a file of LabelMe ({' '.join(repr(error).split())})") from error


def _shapes(shapes: list[dict[str, Any]]) -> Iterator[Shape]:
    for shape in shapes:
        label, kind = str(shape["label"]), shape.get("shape_type") or "polygon"
        points = np.array(shape["points"], np.float64).reshape(-1, 2)
        if kind == "polygon":
            yield Polygon(label, (points,))
        elif kind == "rectangle":
            (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
            yield Polygon(label, (np.array([(left, top), (right, top), (right, bottom), (left, bottom)]),))
        elif kind == "circle":
            middle, edge = points
            radius = math.dist(middle, edge)
            angles = np.linspace(0, 2 * np.pi, _CIRCLE_CORNERS, endpoint=False)
            yield Polygon(label, (middle + radius * np.column_stack((np.cos(angles), np.sin(angles))),))
        elif kind == "mask":
            left, top = points.min(axis=0).round().astype(int).tolist()
            data = np.frombuffer(base64.b64decode(shape["mask"]), np.uint8)
            pixels = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
            if pixels is None:
                raise ValueError(f"the mask of {label!r} is damaged")
            yield Bitmap(label, left, top, np.asarray(pixels) > 0)
