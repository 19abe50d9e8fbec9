"""The supervisor around sources that fail in different ways. Real streams are in ``video/test_live.py``."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from rtseg import frame_rate
from rtseg.errors import SourceDenied, SourceError, SourceStalled
from rtseg.frame import Frame, Image
from rtseg.sources import supervisor
from rtseg.sources.base import Source
from rtseg.sources.health import Health
from rtseg.sources.options import SourceOptions
from rtseg.sources.supervisor import SupervisedSource
from rtseg.system.server_probe import _Attempts, server_probe
from rtseg.system.suspension import resumed_s, watch_suspension


def noise(number: int, size: tuple[int, int] = (32, 48)) -> Image:
    return np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)


class FailingSource(Source):
    """Each connection yields its frames, then raises its error, or ends."""

    def __init__(
        self, *connections: tuple[int, SourceError | None], options: SourceOptions | None = None, live: bool = True
    ) -> None:
        super().__init__("cam", options or SourceOptions())
        self.live = live
        self.fps = 25.0
        self.opened = self.closed = 0
        self._connections = connections

    def _read(self) -> Iterator[Frame]:
        frames, error = self._connections[min(self.opened, len(self._connections) - 1)]
        self.opened += 1
        try:
            for number in range(frames):
                yield Frame(noise(100 * self.opened + number), number, number / 25, time.monotonic())
            if error is not None:
                raise error
        finally:
            self.closed += 1


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(supervisor, "_PROBE_EVERY_S", 0.01)


def states(source: SupervisedSource) -> list[str]:
    return [change.state for change in source.states]


def read(source: SupervisedSource, count: int) -> list[Frame]:
    frames = iter(source)
    try:
        return [next(frames) for _ in range(count)]
    finally:
        source.stop()
        list(frames)


def test_a_source_that_fails_is_opened_again_on_the_same_timeline() -> None:
    inner = FailingSource((3, SourceStalled("no frame for 2 s")), (0, SourceError("refused")), (3, None))
    source = SupervisedSource(inner)
    frames = read(source, 6)
    assert [frame.index for frame in frames] == list(range(6))
    times = [frame.pts_s for frame in frames]
    assert times == sorted(set(times))
    gap_s = frames[3].captured_s - frames[2].captured_s
    assert times[3] - times[2] == pytest.approx(gap_s)
    assert states(source) == [
        "connecting",
        "streaming",
        "stalled",
        "reconnecting",
        "reconnecting",
        "streaming",
        "ended",
    ]
    assert source.reconnects == 1
    assert inner.opened == inner.closed == 3
    facts = source.facts()
    assert facts["reconnects"] == 1
    assert facts["source_states"][3]["reason"] == "no frame for 2 s"


def test_the_same_failure_is_said_once() -> None:
    inner = FailingSource((1, SourceError("gone")), *[(0, SourceError("refused"))] * 5, (2, None))
    source = SupervisedSource(inner)
    read(source, 3)
    assert [change.reason for change in source.states].count("refused") == 1
    assert source.notice.count("refused") == 1


def test_the_first_connection_must_succeed() -> None:
    source = SupervisedSource(FailingSource((0, SourceError("refused"))))
    with pytest.raises(SourceError, match="refused"):
        list(source)
    assert states(source) == ["connecting", "ended"]


def test_max_downtime_also_waits_for_the_first_connection() -> None:
    inner = FailingSource((0, SourceError("refused")), (0, SourceError("refused")), (2, None))
    inner.options = SourceOptions(max_downtime_s=60)
    assert len(read(SupervisedSource(inner), 2)) == 2
    inner = FailingSource((1, SourceError("gone")), options=SourceOptions(max_downtime_s=0))
    with pytest.raises(SourceError, match="gone"):
        list(SupervisedSource(inner))
    assert inner.opened == 1


def test_a_file_on_a_server_is_not_opened_again() -> None:
    inner = FailingSource((3, None), live=False)
    source = SupervisedSource(inner)
    assert len(list(source)) == 3
    assert inner.opened == 1
    assert not source.notice
    assert not source.state
    assert not source.facts()


def test_a_refused_password_is_tried_again_slowly_and_stop_ends_the_wait() -> None:
    inner = FailingSource((1, SourceDenied("check user name and password")))
    source = SupervisedSource(inner)
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    until_s = time.monotonic() + 20
    while states(source)[-1:] != ["reconnecting"]:
        assert time.monotonic() < until_s
        time.sleep(0.005)
    assert "check user name and password" in source.state
    source.stop()
    reader.join(20)
    assert not reader.is_alive()
    assert inner.opened == 1


def test_a_server_that_answers_again_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY_S", 1000.0)
    monkeypatch.setattr(supervisor, "_LAST_DELAY_S", 1000.0)
    answers = iter([False, False, True])
    inner = FailingSource((1, SourceError("gone")), (1, None))
    assert len(read(SupervisedSource(inner, lambda: next(answers)), 2)) == 2


def test_a_stalled_source_whose_server_is_back_is_opened_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY_S", 1000.0)
    failure = SourceStalled("no frame for 1.5 s")
    failure.is_back = True
    asked: list[None] = []
    assert len(read(SupervisedSource(FailingSource((1, failure), (1, None)), lambda: asked.append(None)), 2)) == 2
    assert not asked


def test_a_server_that_is_away_is_not_opened_before_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_LAST_DELAY_S", 1000.0)
    inner = FailingSource((1, SourceError("gone")), (1, None))
    opened: list[int] = []

    def is_back() -> bool:
        opened.append(inner.opened)
        return len(opened) > 20  # long after the first delay is over

    assert len(read(SupervisedSource(inner, is_back), 2)) == 2
    assert set(opened) == {1}


def test_frames_that_a_server_repeats_after_a_return_are_left_out() -> None:
    start_s = time.monotonic()

    class Repeating(FailingSource):
        def _read(self) -> Iterator[Frame]:
            self.opened += 1
            for number in range(4):
                late = 2 * (self.opened - 1)  # the second connection begins two frames before the end of the first
                yield Frame(noise(number), number, number / 25, start_s + (number + late) / 25)
            raise SourceError("gone")

    source = SupervisedSource(Repeating((0, None)))
    frames = read(source, 6)
    assert [round((frame.captured_s - start_s) * 25) for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert source.facts()["frames_too_old"] == 2
    assert source.dropped == 2


def frame(image: Image, number: int, rate: float = 25) -> Frame:
    return Frame(image, number, number / rate, 1000 + number / rate)


def faults_of(make: Callable[[int], Image], timeout_s: float = 1.0) -> list[str]:
    checks = Health(timeout_s)
    checks.describe(frame(make(0), 0), 25)
    return [checks.check(frame(make(number), number), 25) for number in range(60)]


def test_a_frozen_image_is_noticed_after_the_timeout_and_a_still_scene_is_not() -> None:
    scene = noise(1).astype(int)
    frozen = faults_of(lambda number: noise(1))
    assert not any(frozen[:25])
    assert all("frozen" in fault for fault in frozen[30:])
    still = faults_of(lambda number: np.clip(scene + noise(number) % 3, 0, 255).astype(np.uint8))
    assert not any(still)
    assert not any(faults_of(lambda number: noise(1), timeout_s=0))


@pytest.mark.parametrize(("level", "text"), [(16, "black"), (200, "of one colour")])
def test_an_image_of_one_colour_is_noticed(level: int, text: str) -> None:
    def make(number: int) -> Image:
        return (np.full((32, 48, 3), level) + noise(number) % 2).astype(np.uint8)

    faults = faults_of(make)
    assert not any(faults[:25])
    assert all(text in fault for fault in faults[30:])


def test_dead_images_are_withheld_until_they_change() -> None:
    class Freezing(FailingSource):
        def _read(self) -> Iterator[Frame]:
            for number in range(60):
                content = 7 if 5 <= number < 50 else number
                yield Frame(noise(content), number, number / 25, 1000 + number / 25)

    source = SupervisedSource(Freezing((0, None), options=SourceOptions(freeze_timeout_s=1)))
    shown = [each.index for each in read(source, 34)]
    assert shown[:31] == list(range(31))
    assert shown[-1] >= 50
    assert states(source)[:4] == ["connecting", "streaming", "stalled", "streaming"]
    assert source.facts()["frames_withheld"] == source.dropped > 10


def test_a_change_of_size_or_rate_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_rate, "_FRAMES", 10)
    checks = Health(0)
    assert checks.describe(frame(noise(0), 0), 25) == "48x32, 25 fps"
    for number in range(1, 30, 2):  # every second frame was dropped, which is no change of the rate
        checks.check(frame(noise(0), number), 25)
    assert checks.description == "48x32, 25 fps"
    checks.check(frame(noise(0, (16, 16)), 31), 25)
    assert checks.description == "16x16, 25 fps"
    for number in range(40, 60):
        checks.check(frame(noise(0, (16, 16)), number, 10), 25)
    assert checks.description == "16x16, 10 fps"


def test_a_probe_tells_a_stopped_server_from_one_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        silent = server_probe(f"rtsp://127.0.0.1:{port}/a")
        assert silent() is False
        assert server_probe(f"rtmp://127.0.0.1:{port}/a")() is True
    assert silent() is False
    assert server_probe("udp://@:5004")() is None
    assert server_probe("tcp://127.0.0.1:1")() is None


def test_a_server_that_closes_without_an_answer_may_be_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closer = threading.Thread(target=lambda: listener.accept()[0].close())
        closer.start()
        assert server_probe(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/a")() is None
        closer.join(20)


def test_a_probe_waits_for_an_answer_from_far_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                time.sleep(0.6)  # what is tested: longer than an answer from near
                connection.sendall(b"RTSP/1.0 200 OK\r\n\r\n")

        answerer = threading.Thread(target=answer)
        answerer.start()
        assert server_probe(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/a")() is True
        answerer.join(20)


def test_a_probe_that_gets_no_connection_tries_others(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[None] = []
    begin = _Attempts._begin
    monkeypatch.setattr(_Attempts, "_begin", lambda attempts: (begun.append(None), begin(attempts)))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as first:
        first.connect(listener.getsockname())  # now the queue is full, and the kernel drops all others
        assert server_probe(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/a")() is False
    assert len(begun) > 1, "it waits until TCP sends its first packet again"


def test_a_probe_does_not_wait_for_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, lookups = threading.Event(), []

    def look_up(host: str, *arguments: object, **options: object) -> list[object]:
        lookups.append(host)
        assert answers.wait(20)
        return []

    monkeypatch.setattr("rtseg.system.server_probe._TIMEOUT_S", 0.01)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    probe = server_probe("rtsp://gate.invalid/live")
    assert [probe(), probe(), probe()] == [False] * 3
    assert lookups == ["gate.invalid"], "one lookup at a time"
    answers.set()
    for thread in threading.enumerate():
        if thread.name == "rtseg-lookup":
            thread.join(20)


def test_time_for_which_the_process_was_suspended_is_no_downtime() -> None:
    class Suspended(FailingSource):
        def _read(self) -> Iterator[Frame]:
            is_first = not self.opened
            yield from super()._read()
            if is_first:
                time.sleep(0.3)  # as if it had been stopped
                os.kill(os.getpid(), signal.SIGCONT)
                raise SourceStalled("no frame for 2 s")

    before = signal.getsignal(signal.SIGCONT)
    try:
        watch_suspension()
        source = SupervisedSource(Suspended((2, None), options=SourceOptions(max_downtime_s=0.2)))
        frames = read(source, 4)
    finally:
        signal.signal(signal.SIGCONT, before)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [change.reason for change in source.states if change.state == "reconnecting"] == [
        "cam was not read while this process was suspended"
    ]
    assert time.monotonic() - resumed_s() < 60
