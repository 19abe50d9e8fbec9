"""How unsure a model is of an image, from its labels alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtseg.frame import Image, Labels

__all__ = ["mirror_disagreement"]


def mirror_disagreement(image: Image, predict: Callable[[Image], Labels]) -> float:
    """Return the share of pixels, in [0, 1], that get another label when the image is mirrored.

    A model that is sure of an image labels its mirror image alike. Labels are all that a model file gives; with scores,
    entropy would be the usual measure.

    Args:
        image: uint8 (H, W, C).
        predict: returns the class IDs of an image, uint8 (H, W), valid until the next call.

    Source: Gao and others, "Consistency-Based Semi-Supervised Active Learning", ECCV 2020, which selects images by how
    much predictions vary between augmented copies.
    """
    labels = predict(image).copy()
    mirrored = predict(np.ascontiguousarray(image[:, ::-1]))
    return float(np.mean(labels != mirrored[:, ::-1]))
