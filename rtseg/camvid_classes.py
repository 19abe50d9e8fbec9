"""The eleven CamVid classes and their colours.

Source of the classes: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009, reduced to eleven
like in Badrinarayanan, Kendall, Cipolla, "SegNet", 2017: vans and buses are Car, grass and hedges are Tree, traffic
lights are SignSymbol, and a bicycle with or without its rider is Bicyclist.
"""

from __future__ import annotations

__all__ = ["CLASSES", "PALETTE"]

CLASSES: tuple[str, ...] = (
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)
"""Class names. The index is the class ID."""

PALETTE: tuple[tuple[int, int, int], ...] = (
    (70, 130, 180),
    (70, 70, 70),
    (153, 153, 153),
    (128, 64, 128),
    (244, 35, 232),
    (107, 142, 35),
    (220, 220, 0),
    (190, 153, 153),
    (0, 0, 142),
    (220, 20, 60),
    (119, 11, 32),
)
"""RGB colour of each class, 0..255, similar to Cityscapes: easy to distinguish when drawn half transparent."""
