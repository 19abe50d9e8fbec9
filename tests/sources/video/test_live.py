"""Live streams from a real RTSP server, which is killed, stopped, restarted and slowed down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.rtsp_process import RtspProcess, read_number, write_numbered_clip

from rtseg.errors import SourceError
from rtseg.frame import Frame
from rtseg.sources import open_source
from rtseg.sources.options import SourceOptions
from rtseg.sources.supervisor import SupervisedSource

FRAMES = 900
WAIT_S = 20.0
"""Longest wait for a condition, in seconds. Reached only if a test fails."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbered_clip(tmp_path_factory.mktemp("clips") / "a.h264", FRAMES)


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbered_clip(tmp_path_factory.mktemp("clips") / "b.h264", 60, (64, 112))


class Reading:
    """A source that is read on a thread of its own."""

    def __init__(self, source: SupervisedSource, on_frame: Callable[[Frame], None] = lambda frame: None) -> None:
        self.source = source
        self.frames: list[Frame] = []
        self.error: SourceError | None = None
        self._on_frame = on_frame
        self._thread = threading.Thread(target=self._read, name="reading")
        self._thread.start()

    def _read(self) -> None:
        try:
            for frame in self.source:
                self.frames.append(frame)
                self._on_frame(frame)
        except SourceError as error:
            self.error = error

    def wait_for(self, condition: Callable[[], bool]) -> None:
        until_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < until_s, "it did not happen"
            time.sleep(0.01)

    def wait_for_frames(self, count: int, after_s: float = 0.0) -> None:
        """Wait for frames that were captured after a time."""
        self.wait_for(lambda: sum(frame.captured_s > after_s for frame in tuple(self.frames)) >= count)

    def end(self) -> None:
        self.source.stop()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


@contextmanager
def reading(
    server: RtspProcess, on_frame: Callable[[Frame], None] = lambda frame: None, **options: float
) -> Iterator[Reading]:
    source = open_source(server.url, SourceOptions(**options))  # type: ignore[arg-type]
    assert isinstance(source, SupervisedSource)
    read = Reading(source, on_frame)
    try:
        yield read
    finally:
        read.end()


def states(source: SupervisedSource) -> list[str]:
    return [change.state for change in source.states]


def assert_one_timeline(frames: list[Frame]) -> None:
    """Times rise, and advance as the captures do: gaps are neither closed nor filled."""
    for before, after in pairwise(frames):
        assert after.pts_s > before.pts_s
        assert after.index > before.index
        assert after.pts_s - before.pts_s == pytest.approx(after.captured_s - before.captured_s, abs=0.3)


def test_a_slow_reader_gets_the_newest_frames_with_their_true_age(clip: Path) -> None:
    ages: list[tuple[float, float]] = []

    with RtspProcess(clip) as server:

        def be_slow(frame: Frame) -> None:
            ages.append((server.true_age_s(frame.image, FRAMES), time.monotonic() - frame.captured_s))
            time.sleep(0.4)  # twelve frames

        with reading(server, be_slow) as read:
            read.wait_for_frames(8)
            source = read.source
    for true_s, reported_s in ages:
        assert reported_s == pytest.approx(true_s, abs=0.1)
    numbers = [read_number(frame.image) for frame in read.frames]
    assert numbers == sorted(numbers)
    assert numbers[-1] - numbers[0] > 60, "it does not read every frame"
    assert source.dropped > 40
    assert source.facts()["clock"] == "camera"


def test_without_reports_of_the_camera_the_age_counts_from_the_fastest_packet(clip: Path) -> None:
    with RtspProcess(clip, "--no-reports") as server, reading(server) as read:
        read.wait_for_frames(40)
        server.tell("hold 1")
        held_s = time.monotonic()
        read.wait_for_frames(5, held_s + 1)
        facts = read.source.facts()
    assert facts["clock"] == "stream"
    assert max(frame.pts_s for frame in read.frames) > 1
    assert_one_timeline(read.frames[20:])


def test_a_wrong_wall_clock_of_the_camera_is_not_used_but_reported(clip: Path) -> None:
    with RtspProcess(clip, "--clock-error", "-7200") as server, reading(server) as read:
        read.wait_for_frames(30)
        facts = read.source.facts()
    assert facts["clock"] == "stream"
    assert facts["camera_clock_error_s"] == pytest.approx(7200, abs=1)
    assert all(time.monotonic() - frame.captured_s < WAIT_S for frame in read.frames)


@pytest.mark.parametrize("shift", [-20, 50])
def test_timestamps_that_jump_go_on_from_the_frame_before(shift: int, clip: Path) -> None:
    with RtspProcess(clip, "--no-reports") as server, reading(server) as read:
        read.wait_for_frames(20)
        server.tell(f"shift {shift}")
        read.wait_for(lambda: bool(read.source.facts()["clock_jumps"]))
        read.wait_for_frames(20, time.monotonic())
        assert read.source.facts()["clock_jumps"] == 1
        assert states(read.source) == ["connecting", "streaming"]
    assert_one_timeline(read.frames[15:])


def test_a_gap_is_a_gap(clip: Path) -> None:
    with RtspProcess(clip) as server, reading(server) as read:
        read.wait_for_frames(20)
        server.tell("lose 1")
        read.wait_for_frames(20, time.monotonic() + 1)
    steps = [after.pts_s - before.pts_s for before, after in pairwise(read.frames)]
    assert max(steps) > 0.9
    assert_one_timeline(read.frames[15:])


def test_a_server_that_was_killed_is_found_again_even_with_another_size(clip: Path, small_clip: Path) -> None:
    with RtspProcess(clip) as server, reading(server) as read:
        read.wait_for_frames(10)
        server.kill()
        read.wait_for(lambda: "reconnecting" in states(read.source))
        with RtspProcess(small_clip, port=server.port) as again:
            read.wait_for_frames(10, again.start_s)
        source = read.source
    assert {frame.image.shape[:2] for frame in read.frames} == {(96, 128), (64, 112)}
    assert source.reconnects == 1
    assert_one_timeline(read.frames)
    kinds = states(source)
    assert kinds[:2] == ["connecting", "streaming"]
    assert kinds.count("streaming") == 2
    assert kinds[-1] == "ended"
    said = [line for line in source.notice.splitlines() if "streaming" in line]
    assert "128x96" in said[0]
    assert "112x64" in said[1]


def test_a_server_that_stops_is_noticed_and_its_old_frames_are_not_shown(clip: Path) -> None:
    with RtspProcess(clip) as server, reading(server, read_timeout_s=0.5) as read:
        read.wait_for_frames(20)
        server.stop()
        read.wait_for(lambda: "stalled" in states(read.source))
        server.resume()
        resumed_s = time.monotonic()
        read.wait_for_frames(20, resumed_s)
    first = next(frame for frame in read.frames if frame.captured_s > resumed_s)
    old = [frame for frame in read.frames if resumed_s - 0.4 < frame.captured_s < resumed_s]
    assert len(old) < 10
    assert first.pts_s > read.frames[19].pts_s
    assert_one_timeline(read.frames[15:])


def test_stop_ends_a_read_that_is_blocked(clip: Path) -> None:
    with RtspProcess(clip) as server, reading(server, read_timeout_s=60) as read:
        read.wait_for_frames(5)
        server.stop()
        time.sleep(0.2)
        read.source.stop()
        read.wait_for(lambda: states(read.source)[-1] == "ended")


def test_the_run_ends_after_max_downtime_with_the_reason(clip: Path) -> None:
    with RtspProcess(clip) as server, reading(server, max_downtime_s=0.5) as read:
        read.wait_for_frames(5)
        server.kill()
        read.wait_for(lambda: read.error is not None)
    assert "refuses the connection" in str(read.error)
    assert states(read.source)[-1] == "ended"


def test_images_above_max_latency_are_dropped(clip: Path) -> None:
    with (
        RtspProcess(clip, "--clock-error", "-3") as server,
        reading(server, max_latency_ms=500, read_timeout_s=1) as read,
    ):
        read.wait_for(lambda: "stalled" in states(read.source))
        facts = read.source.facts()
        shown = read.source.state
    assert facts["frames_too_old"] > 0
    assert "--max-latency 500 ms" in shown
