"""GeoJSON: a collection of polygons with holes and properties.

Coordinates are pixels of the image, x to the right and y down, not degrees. In a tool for maps the image is upside down
unless its y axis is turned.

Source: RFC 7946, sections 3.1.6 (the exterior ring is counter-clockwise where y points up) and 3.3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rtseg.annotations.outlines import Ring, trace_outlines
from rtseg.frame import Labels
from rtseg.system.file_names import encode_text

__all__ = ["GeoJsonDocument"]


class GeoJsonDocument:
    """Makes a GeoJSON document piece by piece: write ``begin``, then ``add`` for each image, then ``end``.

    Args:
        classes: names; their index is the class ID.
        tolerance: of polygons; see ``trace_outlines``.
    """

    def __init__(self, classes: Sequence[str], *, tolerance: float = 0.0) -> None:
        self._classes, self._tolerance = classes, tolerance
        self._is_first = True

    def begin(self) -> bytes:
        """The start of the document."""
        return b'{"type":"FeatureCollection","features":['

    def add(self, name: str, labels: Labels, facts: Mapping[str, Any] | None = None) -> bytes:
        """The features of one image: one for each connected area, with its class.

        Args:
            name: file name of the image.
            labels: class IDs, uint8 (H, W).
            facts: further properties, e.g. ``pts_s``.
        """
        lines = []
        for outline in trace_outlines(labels, len(self._classes), self._tolerance):
            properties = {"class": self._classes[outline.class_id], "class_id": outline.class_id, "area": outline.area}
            feature = {
                "type": "Feature",
                "properties": properties | {"image": name, **(facts or {})},
                "geometry": {"type": "Polygon", "coordinates": [_closed(ring) for ring in outline.rings]},
            }
            lines.append("\n" if self._is_first else ",\n")
            lines.append(json.dumps(feature, ensure_ascii=False, separators=(",", ":")))
            self._is_first = False
        return encode_text("".join(lines))

    @property
    def end_bytes(self) -> int:
        """Length of ``end``."""
        return len(self.end())

    def end(self) -> bytes:
        """The end of the document; always the same."""
        return b"\n]}\n"


def _closed(ring: Ring) -> list[list[float]]:
    corners = [[int(value) if value.is_integer() else value for value in corner] for corner in ring.tolist()]
    return [*corners, corners[0]]
