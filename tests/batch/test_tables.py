from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.batch.tables import MaskTableSink, count_components
from rtseg.frame import Frame
from rtseg.metrics.class_shares import class_shares
from rtseg.model_file.spec import VOID, ModelSpec


@pytest.mark.parametrize("seed", range(20))
def test_areas_are_counted_as_if_no_row_was_left_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    small = random.integers(0, 3, random.integers(1, 9, 2), np.uint8)
    labels = np.repeat(np.repeat(small, random.integers(1, 4), 0), random.integers(1, 4), 1)
    expected = [
        cv2.connectedComponents((labels == number).astype(np.uint8), connectivity=8)[0] - 1 for number in (0, 1, 2)
    ]
    assert count_components(labels, class_shares(labels, 3)) == expected


def test_a_segment_without_any_class_has_a_table_without_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    spec = ModelSpec("tiny", ("Road",), ((1, 2, 3),), (8, 8))
    sink = MaskTableSink(tmp_path / "masks.parquet", spec, "a.mp4", 0)
    sink.write(Frame(np.zeros((8, 8, 3), np.uint8), 0, 0.0, 0.0), np.full((8, 8), VOID, np.uint8), None)
    sink.close()
    table = parquet.read_table(tmp_path / "masks.parquet")
    assert (table.num_rows, table.num_columns) == (0, 10)
