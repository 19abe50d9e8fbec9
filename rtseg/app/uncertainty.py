"""How unsure a model is of an image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtseg.backends.base import Backend, no_margins
from rtseg.frame import Image, Labels

__all__ = ["margin_uncertainty", "mirror_disagreement"]


def mirror_disagreement(image: Image, predict: Callable[[Image], Labels]) -> float:
    """Return the share of pixels, in [0, 1], that get another label when the image is mirrored.

    A model that is sure of an image labels its mirror image alike. It needs nothing but labels.

    Args:
        image: uint8 (H, W, C).
        predict: returns the class IDs of an image, uint8 (H, W), valid until the next call.

    Source: Gao and others, "Consistency-Based Semi-Supervised Active Learning", ECCV 2020, which selects images by how
    much predictions vary between augmented copies.
    """
    labels = predict(image).copy()
    mirrored = predict(np.ascontiguousarray(image[:, ::-1]))
    return float(np.mean(labels != mirrored[:, ::-1]))


def margin_uncertainty(backend: Backend, prepared: Image) -> float:
    """Return how unsure the labels of an image are, in [0, 1]: 1 minus the mean margin of its pixels.

    The margin is the difference of the two highest probabilities, see ``rtseg.model_file.margin`` for its source.

    Args:
        backend: opened with ``BackendOptions(margin=True)``.
        prepared: the input of the model, uint8 (H, W, C), see ``rtseg.preprocess.Prepare``.

    Raises:
        BackendUnavailable: the backend cannot tell.
    """
    ticket = backend.submit(prepared[None])
    backend.wait(ticket)
    margins = backend.margins(ticket)
    if margins is None:
        raise no_margins(backend.name)
    return 1.0 - float(margins.mean()) / 255
