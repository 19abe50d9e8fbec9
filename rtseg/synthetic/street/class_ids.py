"""Class IDs by name."""

from __future__ import annotations

from rtseg.camvid_classes import CLASSES

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(len(CLASSES))
