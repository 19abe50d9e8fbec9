"""Annotation formats of other tools: run-length codes, polygons, COCO, GeoJSON, CVAT, LabelMe and YOLO.

Coordinates are in pixels: x to the right, y down, (0, 0) is the outer corner of the top left pixel, whose centre is
(0.5, 0.5).
"""
