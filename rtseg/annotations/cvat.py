"""XML of CVAT, version 1.1 for images: polygons, and masks where an area has holes.

Source: CVAT documentation, "CVAT for image export" and "XML annotation format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from rtseg.annotations.outlines import Outline, fill_rings, trace_outlines
from rtseg.annotations.shapes import AnnotatedImage, Annotations, Bitmap, Polygon, Shape
from rtseg.errors import DatasetError
from rtseg.frame import Labels
from rtseg.system.file_names import encode_text
from rtseg.system.read_file import read_text

__all__ = ["CvatDocument", "read_cvat"]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that XML cannot hold."""
_MAX_MASK = 1 << 28
"""Pixels."""


class CvatDocument:
    """Makes an XML document piece by piece: write ``begin``, then ``add`` for each image, then ``end``.

    Args:
        classes: names; their index is the class ID.
        palette: RGB colour of each class.
        tolerance: of polygons; see ``trace_outlines``.
    """

    def __init__(
        self, classes: Sequence[str], palette: Sequence[tuple[int, int, int]], *, tolerance: float = 0.0
    ) -> None:
        self._classes, self._palette, self._tolerance = classes, palette, tolerance
        self._count = 0

    def begin(self) -> bytes:
        """The start of the document, with the classes."""
        lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>"]
        lines.append("<meta><task><labels>")
        for name, (red, green, blue) in zip(self._classes, self._palette, strict=True):
            text = _text(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            colour = f"#{red:02x}{green:02x}{blue:02x}"
            lines.append(f"<label><name>{text}</name><color>{colour}</color><type>any</type><attributes/></label>")
        lines.append("</labels></task></meta>")
        return encode_text("\n".join(lines) + "\n")

    def add(self, name: str, labels: Labels, facts: Mapping[str, Any] | None = None) -> bytes:
        """The areas of one image.

        Args:
            name: file name of the image.
            labels: class IDs, uint8 (H, W).
            facts: not used: the format has no place for them.
        """
        height, width = labels.shape
        head = f'<image id="{self._count}" name={quoteattr(_text(name))} width="{width}" height="{height}">'
        self._count += 1
        areas = (
            _area(outline, self._classes[outline.class_id])
            for outline in trace_outlines(labels, len(self._classes), self._tolerance)
        )
        return encode_text("\n".join((head, *areas, "</image>\n")))

    def end(self) -> bytes:
        """The end of the document."""
        return b"</annotations>\n"


def _area(outline: Outline, name: str) -> str:
    common = f'label={quoteattr(_text(name))} source="auto" occluded="0" z_order="0"'
    if not outline.holes:
        points = ";".join(f"{x:g},{y:g}" for x, y in outline.exterior.tolist())
        return f'<polygon {common} points="{points}"/>'
    left, top, width, height = map(int, outline.box)
    pixels = fill_rings([ring - (left, top) for ring in outline.rings], (height, width)).ravel()
    edges = np.flatnonzero(np.diff(pixels, prepend=False))
    runs = ", ".join(map(str, np.diff(edges, prepend=0, append=pixels.size).tolist()))
    place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
    return f'<mask {common} rle="{runs}" {place}/>'


def _text(text: str) -> str:
    return _CONTROL.sub("_", text)


def read_cvat(path: Path) -> Annotations:
    """Read a file; polygons, boxes and masks count, other shapes have no area.

    Raises:
        DatasetError: it cannot be read, or is not of this format.
    """
    try:
        text = read_text(path)
        if "<!DOCTYPE" in text[:1000] or "<!ENTITY" in text:
            raise DatasetError(f"{path} defines XML entities, which annotations of CVAT do not: export it again")
        root = ElementTree.fromstring(re.sub(r"^<\?xml[^>]*\?>", "", text))
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DatasetError(f"cannot read {path} ({reason}): export it as `CVAT for images 1.1`") from error
    if root.find("image") is None:
        raise DatasetError(f"{path} names no image: export it as `CVAT for images 1.1`")
    try:
        colours = {label.findtext("name", ""): _colour(label) for label in root.iterfind("meta//labels/label")}
        images = tuple(_image(element) for element in root.iterfind("image"))
    except (KeyError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path} is not valid: {' '.join(str(error).split())}") from error
    for image in images:
        colours |= {shape.label: None for shape in image.shapes if shape.label not in colours}
    return Annotations(colours, images)


def _colour(label: ElementTree.Element) -> tuple[int, int, int] | None:
    match = re.fullmatch(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", label.findtext("color", ""))
    return (int(match[1], 16), int(match[2], 16), int(match[3], 16)) if match else None


def _image(element: ElementTree.Element) -> AnnotatedImage:
    by_order = sorted(element, key=lambda shape: int(shape.get("z_order", "0")))
    size = (int(element.attrib["height"]), int(element.attrib["width"]))
    return AnnotatedImage(element.attrib["name"], size, tuple(_shapes(by_order)))


def _shapes(elements: list[ElementTree.Element]) -> Iterator[Shape]:
    for element in elements:
        facts = element.attrib
        if element.tag == "polygon":
            corners = [corner.split(",") for corner in facts["points"].split(";")]
            yield Polygon(facts["label"], (np.array(corners, np.float64).reshape(-1, 2),))
        elif element.tag == "box":
            left, top, right, bottom = (float(facts[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            yield Polygon(facts["label"], (np.array([(left, top), (right, top), (right, bottom), (left, bottom)]),))
        elif element.tag == "mask":
            left, top, width, height = (int(facts[key]) for key in ("left", "top", "width", "height"))
            runs = np.array(facts["rle"].split(","), np.int64)
            if width < 1 or height < 1 or width * height > _MAX_MASK or runs.min() < 0 or runs.sum() != width * height:
                raise ValueError(f"the runs of a mask of {facts['label']!r} do not fill {height}x{width} pixels")
            pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
            yield Bitmap(facts["label"], left, top, pixels)
