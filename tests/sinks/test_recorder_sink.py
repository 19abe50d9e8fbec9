"""A recording that begins and ends while the run goes on."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks.recorder import RecorderSink


def draw(image: Image, labels: Labels) -> Image:
    return np.full_like(image, labels[0, 0])


def write(sink: RecorderSink, *numbers: int) -> None:
    for number in numbers:
        image, labels = np.zeros((32, 48, 3), np.uint8), np.full((32, 48), 10 * number, np.uint8)
        sink.write(Frame(image, number, number / 25, 0.0), labels, None)


def levels(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [round(frame.to_ndarray(format="gray").mean() / 10) for frame in container.decode(video=0)]


def test_only_the_frames_between_start_and_stop_are_recorded_as_drawn(tmp_path: Path) -> None:
    sink = RecorderSink("test", draw)
    write(sink, 1, 2)
    sink.start(tmp_path / "a.mp4")
    write(sink, 5, 6, 7)
    sink.stop()
    write(sink, 8)
    assert levels(tmp_path / "a.mp4") == [5, 6, 7]
    assert sink.finished == [tmp_path / "a.mp4"]
    assert sink.path is None


def test_the_end_of_the_run_finishes_the_recording(tmp_path: Path) -> None:
    sink = RecorderSink("test", draw)
    sink.start(tmp_path / "a.mp4")
    write(sink, 5, 6)
    sink.close()
    assert levels(tmp_path / "a.mp4") == [5, 6]


def test_one_recording_can_follow_another_between_two_frames(tmp_path: Path) -> None:
    sink = RecorderSink("test", draw)
    sink.start(tmp_path / "a.mp4")
    write(sink, 5)
    sink.stop()
    sink.start(tmp_path / "b.mp4")
    write(sink, 6)
    sink.close()
    assert [levels(tmp_path / name) for name in ("a.mp4", "b.mp4")] == [[5], [6]]


def test_a_recording_without_a_frame_leaves_no_file(tmp_path: Path) -> None:
    sink = RecorderSink("test", draw)
    sink.start(tmp_path / "a.mp4")
    sink.stop()
    write(sink, 1)
    sink.close()
    assert list(tmp_path.iterdir()) == []
    assert sink.finished == []


def test_a_second_start_is_refused_and_the_recording_goes_on(tmp_path: Path) -> None:
    sink = RecorderSink("test", draw)
    sink.start(tmp_path / "a.mp4")
    with pytest.raises(SinkError, match="recording already"):
        sink.start(tmp_path / "b.mp4")
    write(sink, 5)
    sink.close()
    assert levels(tmp_path / "a.mp4") == [5]


def test_a_failure_ends_the_recording_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise SinkError("the disk is full")

    sink = RecorderSink("test", draw)
    sink.start(tmp_path / "a.mp4")
    write(sink, 5)
    monkeypatch.setattr("rtseg.sinks.video.VideoSink.write", fail)
    write(sink, 6, 7)
    assert sink.problem == "the disk is full"
    assert sink.path is None
    monkeypatch.undo()
    sink.start(tmp_path / "b.mp4")
    write(sink, 8)
    sink.close()
    assert levels(tmp_path / "b.mp4") == [8]
