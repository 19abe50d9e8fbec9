"""Class IDs as a lossless video."""

from __future__ import annotations

import json
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
