from __future__ import annotations

import numpy as np

from rtseg.events.measure import measure
from rtseg.events.rule import parse_rule


def labels_with_blobs() -> np.ndarray:
    labels = np.zeros((100, 100), np.uint8)
    labels[10:20, 10:20] = 1
    labels[20:30, 20:30] = 2  # touches the first one at a corner
    labels[50:60, 50:70] = 1
    labels[90:92, 90:92] = 1
    return labels


def value(text: str, labels: np.ndarray, ids: tuple[int, ...] = (1,)) -> float | None:
    return measure(parse_rule(text), ids, labels, 10_000)


def test_percent_is_of_the_labelled_pixels() -> None:
    labels = labels_with_blobs()
    labels[:, :50][labels[:, :50] == 0] = 255
    labelled = (labels != 255).sum()
    assert value("Car > 1%", labels) == 100 * 304 / labelled


def test_pixels_of_several_classes_are_added() -> None:
    assert value("Car + Bus > 1px", labels_with_blobs(), (1, 2)) == 404


def test_objects_are_connected_areas_of_some_size() -> None:
    labels = labels_with_blobs()
    assert value("Car > 1 objects", labels) == 2, "4 pixels are less than 0.05 % of the frame"
    assert value("Car > 1 objects of 4px", labels) == 3
    assert value("Car > 1 objects of 101px", labels) == 1
    assert value("Car + Bus > 1 objects", labels, (1, 2)) == 2, "areas that touch at a corner are one"


def test_without_any_label_nothing_is_known() -> None:
    assert value("Car < 1%", np.full((10, 10), 255, np.uint8)) is None


def test_objects_of_large_frames_are_counted_on_fewer_pixels_unless_they_are_small() -> None:
    labels = np.kron(labels_with_blobs(), np.ones((12, 12), np.uint8))
    rule = "Car > 1 objects"
    assert measure(parse_rule(rule), (1,), labels, labels.size) == 2
    assert measure(parse_rule(f"{rule} of 576px"), (1,), labels, labels.size) == 3
    labels[0, 0] = 1
    assert measure(parse_rule(f"{rule} of 1px"), (1,), labels, labels.size) == 4
