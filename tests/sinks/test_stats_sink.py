from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

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
    script = """
import resource, sys
from pathlib import Path
import numpy as np
from rtseg.errors import SinkError
from rtseg.frame import Frame
from rtseg.sinks.stats import StatsSink
from rtseg.model_file.spec import ModelSpec
sink = StatsSink(Path(sys.argv[1]), ModelSpec("tiny", ("Road",), ((1, 2, 3),), (8, 8)))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for index in range(100):
        sink.write(Frame(np.zeros((8, 8, 3), np.uint8), index, 0.0, 0.0), np.zeros((8, 8), np.uint8), None)
except SinkError as error:
    print(error)
sink.close()
"""
    command = [sys.executable, "-c", script, str(tmp_path / "stats.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "stats.part.jsonl").read_text()
    assert text.endswith("}\n")
    assert f"{len(text.splitlines())} lines are kept in" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["stats.part.jsonl"]


def test_the_null_sink_counts_frames(frame: Frame, labels: np.ndarray) -> None:
    sink = NullSink()
    for _ in range(3):
        sink.write(frame, labels, None)
    sink.close()
    assert sink.written == 3
    assert not sink.needs_rendered
