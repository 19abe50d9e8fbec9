"""The labels of a divided video are those of one run over the whole of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.clips import write_clip
from helpers.moving_images import SIZE, moving, texture

from rtseg.annotations.rle import decode_string
from rtseg.batch.divide import divide_video
from rtseg.batch.manifest import load_pyarrow
from rtseg.batch.options import BatchOptions
from rtseg.batch.plan import division_for
from rtseg.batch.segment_work import Job, SegmentWorker
from rtseg.batch.store import Store
from rtseg.model_file.load import load_model
from rtseg.pipeline.options import PropagationOptions


def label(clip: Path, model: Path, folder: Path, segment_s: float, **options: Any) -> list[dict[str, Any]]:
    """The rows of the masks of all segments."""
    propagation = PropagationOptions(options.pop("propagate", "off"), smooth=options.pop("smooth", False))
    settings = BatchOptions(
        (str(clip),), str(folder), str(model), precision="fp32", write=("masks",), segment_s=segment_s,
        propagation=propagation, **options,
    )  # fmt: skip
    Store(folder).create()
    video = divide_video(str(clip), division_for(settings, load_model(model)))
    _, parquet = load_pyarrow()
    rows: list[dict[str, Any]] = []
    with SegmentWorker(settings, threads=1) as worker:
        for segment in video.segments:
            job = Job(video, segment, {})
            assert worker.run(job)["frames"] == segment.frames
            rows += parquet.read_table(folder / job.name / "masks.parquet").drop(["segment"]).to_pylist()
    assert len(video.segments) == (1 if segment_s > 60 else 6)
    return rows


@pytest.mark.parametrize(
    "options",
    [{}, {"propagate": "4"}, {"propagate": "7"}, {"propagate": "3", "smooth": True}, {"smooth": True}],
    ids=str,
)
def test_labels_at_borders_are_equal_bit_for_bit(
    options: dict[str, Any], clip: Path, model: Path, tmp_path: Path
) -> None:
    divided = label(clip, model, tmp_path / "divided", 1.0, **options)
    whole = label(clip, model, tmp_path / "whole", 100.0, **options)
    assert [row["frame"] for row in whole if row["class"] == whole[0]["class"]][:3] == [0, 1, 2]
    assert divided == whole


def test_a_sequence_model_is_equal_where_the_warm_up_reaches_a_scene_cut(sequence_model: Path, tmp_path: Path) -> None:
    """A cut a second before each border resets the model."""
    scenes = [texture(SIZE, seed) for seed in range(6)]
    images = [np.roll(scenes[(number + 5) // 10 % 6], number, 1) for number in range(60)]
    options = {"g": "10", "sc_threshold": "0"}
    clip = write_clip(tmp_path / "cuts.mp4", range(60), size=SIZE[::-1], options=options, images=images)
    whole = label(clip, sequence_model, tmp_path / "whole", 100.0)
    assert label(clip, sequence_model, tmp_path / "warm", 1.0, warm_up=8) == whole
    assert label(clip, sequence_model, tmp_path / "cold", 1.0, warm_up=0) != whole


def test_masks_hold_every_pixel(clip: Path, model: Path, tmp_path: Path) -> None:
    rows = label(clip, model, tmp_path / "out", 100.0)
    first = [row for row in rows if row["frame"] == 0]
    assert sum(row["area"] for row in first) == SIZE[0] * SIZE[1]
    for row in first:
        assert int(decode_string(row["counts"])[1::2].sum()) == row["area"]


def test_moving_images_differ() -> None:
    """Else equal labels would prove nothing."""
    assert not np.array_equal(*moving(2, (1, 2)))
