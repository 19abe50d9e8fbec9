from __future__ import annotations

import cv2
import numpy as np
import pytest

from rtseg.batch.tables import count_components
from rtseg.metrics.class_shares import class_shares


@pytest.mark.parametrize("seed", range(20))
def test_areas_are_counted_as_if_no_row_was_left_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    small = random.integers(0, 3, random.integers(1, 9, 2), np.uint8)
    labels = np.repeat(np.repeat(small, random.integers(1, 4), 0), random.integers(1, 4), 1)
    expected = [
        cv2.connectedComponents((labels == number).astype(np.uint8), connectivity=8)[0] - 1 for number in (0, 1, 2)
    ]
    assert count_components(labels, class_shares(labels, 3)) == expected
