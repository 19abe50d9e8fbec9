"""The matrices of pyramid pooling. They depend on the size of the input, and on nothing that was trained.

Free of torch: giving a model file another input size means making them anew.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["pyramid_matrix"]


@lru_cache(maxsize=256)
def pyramid_matrix(axis: str, length: int, bins: int) -> NDArray[np.float32]:
    """Averaging ``length`` places into ``bins`` and resizing back, bilinear, as one matrix (length, length).

    Args:
        axis: ``rows``: to be multiplied from the left; ``columns``: from the right.
        length: of the axis, in places of the feature map.
        bins: of the pyramid's level.

    The bounds are those of adaptive average pooling (neighbouring bins share a place where ``bins`` does not divide
    ``length``), the resizing is of the ``align_corners=False`` kind.
    """
    pool = np.zeros((bins, length))
    for place in range(bins):
        start, end = place * length // bins, -(-(place + 1) * length // bins)
        pool[place, start:end] = 1 / (end - start)
    centre = np.clip((np.arange(length) + 0.5) * bins / length - 0.5, 0, bins - 1)
    resize = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(bins)))
    matrix = np.asarray(resize @ pool, dtype=np.float32)
    return np.ascontiguousarray(matrix if axis == "rows" else matrix.T)
