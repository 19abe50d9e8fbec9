from __future__ import annotations

import time
from pathlib import Path
from threading import Event

import av
import numpy as np
import pytest

from rtseg.errors import SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.model_file.spec import ModelSpec
from rtseg.sinks import _background, open_sinks
from rtseg.sinks._background import BackgroundSink
from rtseg.sinks.base import Sink

LABELS = np.zeros((4, 4), np.uint8)


class Disk(Sink):
    """A sink that waits while ``free`` is not set, and fails at one frame."""

    name, kind = "video out.mp4", "video"

    def __init__(self, fails_at: int = -1) -> None:
        self.free = Event()
        self.free.set()
        self.fails_at = fails_at
        self.levels: list[int] = []
        self.closed = 0

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        assert rendered is not None
        self.free.wait(30)
        if frame.index == self.fails_at:
            raise SinkError("the disk is full")
        self.levels.append(int(rendered[0, 0, 0]))

    def close(self) -> None:
        self.closed += 1


def write(sink: Sink, index: int) -> None:
    image = np.full((4, 4, 3), index, np.uint8)
    sink.write(Frame(image, index, index / 25, 0.0), LABELS, image)
    image[:] = 255  # the caller uses its array again


def wait_until(sink: BackgroundSink, count: int, disk: Disk) -> None:
    deadline_s = time.monotonic() + 30
    while len(disk.levels) < count and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert len(disk.levels) == count


@pytest.mark.usefixtures("no_thread_left")
def test_frames_are_written_in_order_and_all_of_them_at_close() -> None:
    disk = Disk()
    sink = BackgroundSink(disk)
    for index in range(8):
        write(sink, index)
    sink.close()
    sink.close()
    assert disk.levels == list(range(8))
    assert (sink.written, sink.left_out, sink.notice, disk.closed) == (8, 0, "", 1)


@pytest.mark.usefixtures("no_thread_left")
def test_a_disk_that_hangs_holds_no_frame_and_those_that_are_missing_are_counted() -> None:
    disk = Disk()
    sink = BackgroundSink(disk)
    write(sink, 0)
    wait_until(sink, 1, disk)
    disk.free.clear()
    for index in range(1, 21):
        write(sink, index)
    assert sink.left_out >= 11
    assert sink.notice == "video out.mp4 lacks frames: the disk or the encoder is too slow"
    assert sink.facts() == {"left_out": sink.left_out}
    disk.free.set()
    sink.close()
    assert disk.levels == list(range(len(disk.levels)))
    assert len(disk.levels) + sink.left_out == 21


@pytest.mark.usefixtures("no_thread_left")
def test_an_error_is_raised_once_by_the_next_call() -> None:
    disk = Disk(fails_at=0)
    sink = BackgroundSink(disk)
    write(sink, 0)
    sink._thread.join(30)
    with pytest.raises(SinkError, match="the disk is full"):
        write(sink, 1)
    sink.close()
    last = BackgroundSink(Disk(fails_at=0))
    write(last, 0)
    with pytest.raises(SinkError, match="the disk is full"):
        last.close()
    assert disk.closed == 1


def test_a_disk_that_never_answers_cannot_hold_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_background, "_CLOSE_S", 0.05)
    disk = Disk()
    disk.free.clear()
    sink = BackgroundSink(disk)
    write(sink, 0)
    with pytest.raises(SinkError, match="cannot be finished, the disk does not answer"):
        sink.close()
    disk.free.set()
    sink._thread.join(30)


@pytest.mark.parametrize(("may_drop", "frames"), [(True, 0), (False, 5)])
def test_a_recording_lacks_frames_only_where_they_may_be_dropped(
    may_drop: bool, frames: int, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_background, "_WAITING", 0)  # a disk that is always too slow
    path = tmp_path / "out.mkv"
    (sink,) = open_sinks(spec, outputs=[str(path)], live=True, may_drop=may_drop)
    image = np.zeros((32, 32, 3), np.uint8)
    for index in range(5):
        sink.write(Frame(image, index, index / 25, 0.0), LABELS, image)
    sink.close()
    assert ("lacks frames" in sink.notice) == may_drop
    assert path.exists() == bool(frames)
    if frames:
        with av.open(path) as container:
            assert len(list(container.decode(video=0))) == frames
