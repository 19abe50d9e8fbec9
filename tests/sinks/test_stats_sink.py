from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.limited_file import write_until_full

from rtseg.errors import SinkError
from rtseg.frame import Frame
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks.null import NullSink
from rtseg.sinks.stats import StatsSink


def test_each_frame_is_a_line_with_the_share_of_every_class(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    sink = StatsSink(tmp_path / "stats.jsonl", spec)
    sink.write(frame, labels, None)
    sink.write(replace(frame, index=8, name="ä.png"), labels, None)
    sink.close()
    first, second = map(json.loads, (tmp_path / "stats.jsonl").read_text("utf-8").splitlines())
    classes = {"Road": 0.5, "Car": 0.25, "Sky": 0.25}
    assert first == {"index": 7, "pts_s": 0.28, "classes": classes}
    assert second == {"index": 8, "pts_s": 0.28, "name": "ä.png", "classes": classes}


def test_a_line_can_be_read_as_soon_as_it_is_written(
    tmp_path: Path, spec: ModelSpec, frame: Frame, labels: np.ndarray
) -> None:
    sink = StatsSink(tmp_path / "stats.jsonl", spec)
    for count in (1, 2, 3):
        sink.write(frame, labels, None)
        assert (tmp_path / "stats.part.jsonl").read_text().count("\n") == count
    assert not (tmp_path / "stats.jsonl").exists()
    sink.close()
    sink.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["stats.jsonl"]


def test_a_run_without_frames_leaves_no_file(tmp_path: Path, spec: ModelSpec) -> None:
    StatsSink(tmp_path / "stats.jsonl", spec).close()
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_refused_immediately(tmp_path: Path, spec: ModelSpec) -> None:
    with pytest.raises(SinkError, match=r"statistics .* there is no folder"):
        StatsSink(tmp_path / "missing" / "stats.jsonl", spec)


def test_a_full_disk_keeps_complete_lines_under_the_part_name(tmp_path: Path) -> None:
    printed = write_until_full("stats", tmp_path / "stats.jsonl")
    text = (tmp_path / "stats.part.jsonl").read_text()
    assert text.endswith("}\n")
    assert f"{len(text.splitlines())} lines are kept in" in printed
    assert [entry.name for entry in tmp_path.iterdir()] == ["stats.part.jsonl"]


def test_the_null_sink_counts_frames(frame: Frame, labels: np.ndarray) -> None:
    sink = NullSink()
    for _ in range(3):
        sink.write(frame, labels, None)
    sink.close()
    assert sink.written == 3
    assert not sink.needs_rendered
