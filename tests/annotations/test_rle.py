from __future__ import annotations

import numpy as np
import pytest

from rtseg.annotations.rle import class_runs, decode_counts, decode_string, encode_string
from rtseg.frame import Labels


def test_runs_return_the_pixels_their_number_and_their_box(labels: Labels) -> None:
    painted = np.full_like(labels, 255)
    for runs in class_runs(labels, 3):
        mask = decode_counts(runs.counts, labels.shape)
        painted[mask] = runs.class_id
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        assert runs.box == (left, top, columns.max() - left + 1, rows.max() - top + 1)
        assert runs.area == mask.sum()
    assert np.array_equal(painted, labels)


def test_counts_survive_as_text(labels: Labels) -> None:
    for runs in class_runs(labels, 3):
        assert np.array_equal(decode_string(encode_string(runs.counts)), runs.counts)


def test_the_text_is_that_of_the_coco_api() -> None:
    labels = np.full((300, 200), 255, np.uint8)
    labels[20:280, 10:190] = 0
    labels[100, 100] = 255
    (runs,) = class_runs(labels, 1)
    # pycocotools 2.0.11: mask.encode(np.asfortranarray(labels == 0))
    assert encode_string(runs.counts) == "\\n2T8X1" + "0" * 178 + "\\JiNS3W1a2" + "0" * 176 + "Tm2"


def test_the_coco_api_reads_and_writes_the_same(labels: Labels) -> None:
    api = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    for runs in class_runs(labels, 3):
        expected = api.encode(np.asfortranarray((labels == runs.class_id).astype(np.uint8)))
        assert encode_string(runs.counts) == expected["counts"].decode()


@pytest.mark.parametrize("text", ["", "P", "0 0", "é", "P" * 20 + "0"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run-length"):
        decode_string(text)


@pytest.mark.parametrize("counts", [[], [3], [7, -1], [2**62, 2**62]])
def test_counts_that_do_not_fill_the_image_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="do not fill 2x3"):
        decode_counts(np.array(counts, np.int64), (2, 3))
