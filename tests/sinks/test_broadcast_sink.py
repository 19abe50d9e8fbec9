"""Frames for viewers who watch now: encoded while somebody listens, with the labels of exactly this frame."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from helpers.label_runs import decode_runs

from rtseg.frame import Frame
from rtseg.sinks._label_runs import code_runs
from rtseg.sinks.broadcast import BroadcastSink, LiveFrame


def write(sink: BroadcastSink, count: int = 1, *, size: tuple[int, int] = (32, 48), first: int = 0) -> None:
    for number in range(first, first + count):
        image = np.full((*size, 3), number % 200, np.uint8)
        labels = np.full(size, number % 200, np.uint8)
        sink.write(Frame(image, number, number / 25, float(number)), labels, None)


def listen(sink: BroadcastSink) -> list[LiveFrame]:
    frames: list[LiveFrame] = []
    sink.add_listener(frames.append)
    return frames


def labels_of(frame: LiveFrame) -> np.ndarray:
    return decode_runs(frame.labels).reshape(frame.labels_size)


@pytest.mark.parametrize("side", [1, 7, 11, 90, 128, 300])
def test_runs_of_any_length_are_coded(side: int) -> None:
    for shape in ((side, side), (1, side * side)):
        random = np.random.default_rng(side).integers(0, 256, shape, dtype=np.uint8)
        halves = np.zeros(shape, np.uint8)
        halves.ravel()[side * side // 2 :] = 255
        for labels in (random, halves, np.full(shape, 255, np.uint8)):
            np.testing.assert_array_equal(decode_runs(code_runs(labels)).reshape(shape), labels)
    assert len(code_runs(np.zeros((288, 512), np.uint8))) == 4


def test_without_a_listener_nothing_is_encoded_and_the_newest_frame_is_kept() -> None:
    sink = BroadcastSink("test")
    write(sink, 3)
    assert sink._encoder is None
    assert sink.newest is not None
    assert sink.newest[0].index == 2


def test_a_listener_who_comes_later_begins_with_a_key_frame() -> None:
    sink = BroadcastSink("test")
    first = listen(sink)
    write(sink, 3)
    second = listen(sink)
    write(sink, 3, first=3)
    assert [frame.is_key for frame in first] == [True, False, False, True, False, False]
    assert [frame.index for frame in second] == [3, 4, 5]


def test_every_second_of_video_has_a_key_frame_that_carries_the_parameter_sets() -> None:
    sink = BroadcastSink("test")
    frames = listen(sink)
    write(sink, 60)
    keys = [frame for frame in frames if frame.is_key]
    assert [frame.index for frame in keys] == [0, 25, 50]
    assert all(b"\0\0\1\x67" in frame.chunk for frame in keys)


def test_each_frame_has_its_own_labels() -> None:
    sink = BroadcastSink("test")
    frames = listen(sink)
    write(sink, 5)
    assert [np.unique(labels_of(frame)).tolist() for frame in frames] == [[0], [1], [2], [3], [4]]


def test_large_frames_and_labels_are_shrunk_and_odd_sides_become_even() -> None:
    sink = BroadcastSink("test", max_side=64)
    frames = listen(sink)
    write(sink, 1, size=(601, 1201))
    write(sink, 1, size=(33, 47), first=1)
    assert frames[0].size == (32, 64)
    assert frames[0].labels_size == (256, 512)
    assert frames[1].size == (32, 48)
    assert frames[1].is_key


def test_pixels_that_are_not_square_become_square() -> None:
    sink = BroadcastSink("test")
    frames = listen(sink)
    image, labels = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8)
    sink.write(Frame(image, 0, 0.0, 0.0, pixel_aspect=Fraction(2)), labels, None)
    assert frames[0].size == (32, 96)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_images_and_extra_channels_are_sent_in_colour(channels: int) -> None:
    sink = BroadcastSink("test")
    frames = listen(sink)
    image = np.full((32, 48, channels), 90, np.uint8)
    sink.write(Frame(image, 0, 0.0, 0.0), np.zeros((32, 48), np.uint8), None)
    assert frames[0].is_key


def test_a_listener_who_has_left_gets_nothing() -> None:
    sink = BroadcastSink("test")
    frames: list[LiveFrame] = []

    def listener(frame: LiveFrame) -> None:
        frames.append(frame)

    sink.add_listener(listener)
    write(sink)
    sink.remove_listener(listener)
    sink.remove_listener(listener)
    write(sink)
    assert len(frames) == 1


def test_watchers_are_called_for_every_frame_until_they_leave() -> None:
    sink = BroadcastSink("test")
    calls: list[int] = []

    def watcher() -> None:
        calls.append(sink.written)

    sink.add_watcher(watcher)
    write(sink, 2)
    sink.remove_watcher(watcher)
    write(sink)
    assert calls == [0, 1]


def test_a_sink_can_be_used_again_by_the_next_run() -> None:
    sink = BroadcastSink("test")
    frames = listen(sink)
    write(sink, 2)
    sink.close()
    write(sink, 2)
    assert [frame.is_key for frame in frames] == [True, False, True, False]
