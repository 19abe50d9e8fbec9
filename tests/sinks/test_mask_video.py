"""Class IDs as a lossless video."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.errors import OptionError
from rtseg.frame import Frame
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks import open_sinks
from rtseg.sinks.mask_video import MaskVideoSink
from rtseg.sources import open_source


def _write(path: Path, spec: ModelSpec, frame: Frame, maps: list[np.ndarray], times: list[float]) -> MaskVideoSink:
    (sink,) = open_sinks(spec, masks=path, fps_hint=lambda: 25.0)
    assert isinstance(sink, MaskVideoSink)
    for index, (labels, time_s) in enumerate(zip(maps, times, strict=True)):
        sink.write(replace(frame, index=index, pts_s=time_s), labels, None)
    sink.close()
    sink.close()
    return sink


def test_every_value_and_every_time_is_read_back(tmp_path: Path, spec: ModelSpec, frame: Frame) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 256, (47, 61), np.uint8) for _ in range(4)]
    _write(tmp_path / "m.mkv", spec, frame, maps, [5.0, 5.033, 5.2, 5.2])
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.mkv"]
    with av.open(tmp_path / "m.mkv") as container:
        assert json.loads(container.metadata["CLASSES"]) == list(spec.classes)
        frames = list(container.decode(video=0))
    assert [frame.format.name for frame in frames] == ["gray"] * 4
    assert [round(frame.pts * frame.time_base * 1000) for frame in frames] == [0, 33, 200, 201]
    for decoded, labels in zip(frames, maps, strict=True):
        assert np.array_equal(decoded.to_ndarray(), labels)


def test_a_source_of_rtseg_reads_the_same_values(tmp_path: Path, spec: ModelSpec, frame: Frame) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    _write(tmp_path / "m.mkv", spec, frame, [values, values[::-1]], [0.0, 0.04])
    images = [read.image for read in open_source(str(tmp_path / "m.mkv"))]
    assert np.array_equal(images[0], np.dstack([values] * 3))
    assert np.array_equal(images[1], np.dstack([values[::-1]] * 3))


def test_a_frame_of_another_size_is_fitted_without_new_classes(tmp_path: Path, spec: ModelSpec, frame: Frame) -> None:
    first, second = np.zeros((40, 60), np.uint8), np.full((20, 60), 2, np.uint8)
    sink = _write(tmp_path / "m.mkv", spec, frame, [first, second], [0.0, 0.04])
    assert "1 frames of another size" in sink.notice
    with av.open(tmp_path / "m.mkv") as container:
        _, fitted = (decoded.to_ndarray() for decoded in container.decode(video=0))
    assert (fitted[10:30] == 2).all()
    assert (fitted[:10] == 255).all()
    assert (fitted[30:] == 255).all()


def test_without_frames_there_is_no_file(tmp_path: Path, spec: ModelSpec, frame: Frame) -> None:
    _write(tmp_path / "m.mkv", spec, frame, [], [])
    assert not list(tmp_path.iterdir())


def test_a_video_format_with_loss_is_refused(tmp_path: Path, spec: ModelSpec) -> None:
    with pytest.raises(OptionError, match=r"without loss as \.mkv"):
        open_sinks(spec, masks=tmp_path / "m.mp4")


def test_a_crash_costs_half_a_second_at_most(tmp_path: Path, spec: ModelSpec, frame: Frame) -> None:
    (sink,) = open_sinks(spec, masks=tmp_path / "m.mkv")
    for index in range(100):
        labels = np.full((48, 64), index, np.uint8)
        sink.write(replace(frame, index=index, pts_s=index / 25), labels, None)
    (tmp_path / "crashed.mkv").write_bytes((tmp_path / "m.part.mkv").read_bytes())
    sink.close()
    with av.open(tmp_path / "crashed.mkv") as container:
        values = [decoded.to_ndarray()[0, 0] for decoded in container.decode(video=0)]
    assert values == list(range(len(values)))
    assert len(values) >= 100 - 13


def test_a_full_disk_ends_it_with_one_line_and_leaves_what_can_be_read(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
import numpy as np
from rtseg.errors import SinkError
from rtseg.frame import Frame
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks.mask_video import MaskVideoSink
sink = MaskVideoSink(Path(sys.argv[1]), ModelSpec("tiny", ("Road",), ((1, 2, 3),), (8, 8)))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
try:
    for index in range(100):
        sink.write(Frame(np.zeros((64, 64, 3), np.uint8), index, index / 25, 0.0), noise, None)
except SinkError as error:
    print(error)
sink.close()
"""
    command = [sys.executable, "-c", script, str(tmp_path / "m.mkv")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "ended, the disk is full" in done.stdout
    assert done.stdout.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.part.mkv"]
    with av.open(tmp_path / "m.part.mkv") as container:
        assert len(list(container.decode(video=0))) >= 10
