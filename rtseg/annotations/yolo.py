"""YOLO segmentation of Ultralytics: a text file for each image, a line for each area, in shares of width and height.

Source: Ultralytics documentation, "Instance segmentation datasets overview".
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from rtseg.annotations.outlines import single_ring, trace_outlines
from rtseg.frame import Labels

__all__ = ["yolo_data_file", "yolo_lines"]


def yolo_lines(labels: Labels, classes: int, tolerance: float = 0.0) -> str:
    """Return the lines for one image: the class ID, then x and y of each corner in [0, 1].

    Args:
        labels: class IDs, uint8 (H, W).
        classes: number of classes.
        tolerance: of polygons; see ``trace_outlines``.
    """
    height, width = labels.shape
    lines = []
    for outline in trace_outlines(labels, classes, tolerance):
        shares = (single_ring(outline) / (width, height)).ravel().tolist()
        lines.append(f"{outline.class_id} {' '.join(f'{share:.6g}' for share in shares)}\n")
    return "".join(lines)


def yolo_data_file(classes: Sequence[str]) -> str:
    """Return ``data.yaml``: the folder of the images, and the names of the classes."""
    names = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(classes))
    return f"path: .\ntrain: images\nval: images\nnames:\n{names}"
