from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.batch_options import options
from helpers.small_network import SPEC

from rtseg.batch.keyframes import KeyframeSink
from rtseg.batch.manifest import load_pyarrow
from rtseg.batch.run import BatchRun
from rtseg.frame import Frame


def write(folder: Path, frames: list[tuple[float, int, float]]) -> list[dict[str, Any]]:
    """Rows of frames that are given by time, grey value and share of the second class."""
    sink = KeyframeSink(folder, "segments/v/00003", SPEC, 0.5, "v.mp4", 3)
    for index, (pts_s, grey, share) in enumerate(frames):
        labels = np.zeros((10, 10), np.uint8)
        labels[: round(10 * share)] = 1
        sink.write(Frame(np.full((10, 10, 3), grey, np.uint8), index, pts_s, pts_s, "v"), labels, None)
    sink.close()
    _, parquet = load_pyarrow()
    return list(parquet.read_table(folder / "keyframes.parquet").to_pylist())


def chosen(folder: Path, frames: list[tuple[float, int, float]]) -> list[tuple[int, str]]:
    return [(row["frame"], row["reason"]) for row in write(folder, frames)]


def test_the_first_frame_scene_cuts_and_slow_changes_are_chosen(tmp_path: Path) -> None:
    still = [(2.0 * number, 50, 0.1) for number in range(4)]
    slow = [(8.0 + 2 * number, 50, 0.1 * (number + 2)) for number in range(3)]
    cut = [(16.0, 250, 0.4), (18.0, 250, 0.4)]
    assert chosen(tmp_path, still + slow + cut) == [(0, "segment"), (5, "change"), (7, "cut")]


def test_key_images_are_a_second_apart_and_a_cut_is_not_forgotten(tmp_path: Path) -> None:
    assert chosen(tmp_path, [(0.0, 50, 0.0), (0.5, 250, 0.0), (0.9, 250, 0.0), (1.0, 250, 0.0), (1.5, 250, 1.0)]) == [
        (0, "segment"),
        (3, "cut"),
    ]


def test_each_row_names_its_image_and_the_change(tmp_path: Path) -> None:
    first, second = write(tmp_path, [(0.0, 100, 0.0), (1.0, 100, 0.5)])
    assert (first["source"], first["segment"], first["change"]) == ("v.mp4", 3, None)
    assert (second["pts_s"], second["change"]) == (1.0, pytest.approx(0.5))
    assert second["image"] == "segments/v/00003/keyframes/000001.jpg"
    image = cv2.imread(str(tmp_path / "keyframes/000001.jpg"))
    assert image is not None
    assert image.shape == (10, 10, 3)


def test_a_run_writes_key_images_of_each_segment(clip: Path, model: Path, tmp_path: Path) -> None:
    with BatchRun(options(clip, tmp_path, model, write=("keyframes",))) as run:
        assert run.run().done == 3
    _, parquet = load_pyarrow()
    for path in tmp_path.rglob("keyframes.parquet"):
        rows = parquet.read_table(path).to_pylist()
        assert rows[0]["reason"] == "segment"
        assert rows[0]["frame"] == 20 * rows[0]["segment"]
        assert all((tmp_path / row["image"]).is_file() for row in rows)
