from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.errors import OptionError, SourceError, SourceNotFound
from rtseg.sources import camera as camera_module
from rtseg.sources import open_source
from rtseg.sources.camera import CameraSource
from rtseg.sources.options import SourceOptions
from rtseg.sources.supervisor import SupervisedSource
from rtseg.system.opencv import cv2

QUICK = SourceOptions(read_timeout_s=0.2)
GOOD = np.full((48, 64, 3), 90, np.uint8)

Read = Callable[[], tuple[bool, NDArray[np.uint8] | None]]


class FakeCapture:
    """A camera that delivers ``good`` images, then whatever ``then`` returns."""

    def __init__(self, good: int = 3, then: Read | None = None, *, opens: bool = True) -> None:
        self.good = good
        self.then = then or (lambda: (False, None))
        self.opens = opens
        self.requests: list[tuple[int, float]] = []
        self.users: set[int] = set()
        self.released = 0

    def isOpened(self) -> bool:  # noqa: N802
        return self.opens  # also True after it is unplugged, as with V4L2

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        self.users.add(threading.get_ident())
        self.good -= 1
        return (True, GOOD) if self.good >= 0 else self.then()

    def get(self, prop: int, /) -> float:
        return 30.0 if prop == cv2.CAP_PROP_FPS else 0.0

    def set(self, prop: int, value: float, /) -> bool:
        self.requests.append((prop, value))
        return False

    def release(self) -> None:
        self.users.add(threading.get_ident())
        self.released += 1


def camera(capture: FakeCapture, where: str = "camera:0", options: SourceOptions = QUICK) -> CameraSource:
    return CameraSource(where, options, open_capture=lambda device: capture)


def test_frame_times_count_from_the_first_frame() -> None:
    source = camera(FakeCapture(good=100), options=SourceOptions(max_frames=5))
    frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    times = [frame.pts_s for frame in frames]
    assert times[0] == 0.0
    assert times == sorted(times)
    assert (source.live, source.fps, source.frame_count, source.name) == (True, 30.0, None, "camera0")


def test_a_camera_that_is_unplugged_ends_with_an_error_after_its_frames() -> None:
    capture = FakeCapture(good=3)
    frames = iter(camera(capture))
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"camera 0 stopped sending frames: none for 0\.2 s"):
        next(frames)
    assert 0.15 < time.monotonic() - began < 1
    assert capture.released == 1


def test_a_camera_may_pause_for_a_moment() -> None:
    answers = iter([(False, None)] * 3 + [(True, GOOD)] * 2)
    capture = FakeCapture(good=2, then=lambda: next(answers, (False, None)))
    frames = iter(camera(capture))
    assert [next(frames).index for _ in range(4)] == [0, 1, 2, 3]


def test_a_slow_consumer_is_not_a_stalled_camera() -> None:
    answers = iter([(False, None), (True, GOOD)])
    frames = iter(camera(FakeCapture(good=1, then=lambda: next(answers))))
    next(frames)
    threading.Event().wait(0.3)
    assert next(frames).index == 1


@pytest.mark.parametrize("image", [None, np.empty((0, 0, 3), np.uint8)])
def test_a_frame_without_an_image_is_ignored(image: NDArray[np.uint8] | None) -> None:
    with pytest.raises(SourceError, match="stopped sending frames"):
        list(camera(FakeCapture(good=1, then=lambda: (True, image))))


def test_a_grey_camera_gives_bgr() -> None:
    capture = FakeCapture(good=0, then=lambda: (True, np.full((48, 64), 7, np.uint8)))
    frame = next(iter(camera(capture)))
    assert frame.image.shape == (48, 64, 3)
    assert (frame.image == 7).all()


def test_an_error_of_the_driver_names_the_camera() -> None:
    def fail() -> tuple[bool, NDArray[np.uint8] | None]:
        raise cv2.error("ioctl")

    with pytest.raises(SourceError, match="camera 0 failed"):
        list(camera(FakeCapture(good=1, then=fail)))


def test_a_camera_in_use_by_another_program_is_an_error() -> None:
    capture = FakeCapture(opens=False)
    with pytest.raises(SourceError, match="camera 0 cannot be opened: is another program using it"):
        list(camera(capture))
    assert capture.released == 1


@pytest.mark.parametrize("where", ["camera:97", "camera:/dev/video97"])
def test_a_camera_that_does_not_exist_is_named_at_once(where: str) -> None:
    began = time.monotonic()
    with pytest.raises(SourceNotFound, match=r"no camera /dev/video97"):
        list(open_source(where))
    assert time.monotonic() - began < 0.5


def test_requests_are_passed_on_with_the_pixel_format_first() -> None:
    capture = FakeCapture()
    next(iter(camera(capture, "camera:/dev/video2?width=1280&height=720&fps=30&fourcc=mjpg")))
    mjpg = cv2.VideoWriter.fourcc(*"MJPG")
    assert capture.requests == [
        (cv2.CAP_PROP_FOURCC, mjpg),
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_FPS, 30),
    ]


@pytest.mark.parametrize("query", ["width=wide", "width=0", "height=-1", "zoom=3", "fourcc=MJPEG"])
def test_an_unknown_request_is_an_option_error(query: str) -> None:
    with pytest.raises(OptionError, match=query.partition("=")[0]):
        open_source(f"camera:0?{query}")


@pytest.mark.parametrize(
    ("where", "device", "name"),
    [
        ("camera", 0, "camera0"),
        ("camera:", 0, "camera0"),
        ("camera:2", 2, "camera2"),
        ("camera:/dev/video1", "/dev/video1", "camera-video1"),
        ("camera:/dev/v4l/by-id/usb-a b", "/dev/v4l/by-id/usb-a b", "camera-usb-a_b"),
    ],
)
def test_the_device_is_a_number_or_a_path(where: str, device: int | str, name: str) -> None:
    asked: list[int | str] = []

    def open_capture(device: int | str) -> FakeCapture:
        asked.append(device)
        return FakeCapture()

    source = CameraSource(where, QUICK, open_capture=open_capture)
    next(iter(source))
    assert (asked, source.name) == ([device], name)


def test_the_camera_is_used_by_the_reading_thread_only_and_released_on_stop() -> None:
    capture = FakeCapture(good=10**9)
    source = camera(capture)
    begun = threading.Event()
    reader_id: list[int] = []

    def read() -> None:
        reader_id.append(threading.get_ident())
        for _ in source:
            begun.set()

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    assert begun.wait(5)
    source.stop()
    reader.join(5)
    assert not reader.is_alive()
    assert capture.users == set(reader_id)
    assert capture.released == 1


def test_stop_ends_the_wait_for_a_frame() -> None:
    source = camera(FakeCapture(good=0), options=SourceOptions(read_timeout_s=60))
    reader = threading.Thread(target=lambda: list(source), name="reader")
    reader.start()
    source.stop()
    reader.join(5)
    assert not reader.is_alive()


def test_creating_a_source_needs_no_camera(tmp_path: Path) -> None:
    assert open_source("camera:0").live


def test_a_camera_that_returns_under_another_number_is_found_by_its_serial_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "by-id"
    folder.mkdir()
    monkeypatch.setattr(camera_module, "_BY_ID", folder)
    link = folder / "usb-Maker_Camera_123-video-index0"
    (tmp_path / "video3").touch()
    link.symlink_to("../video3")
    opened: list[object] = []

    def open_capture(device: int | str) -> FakeCapture:
        opened.append(device)
        if len(opened) == 1:
            return FakeCapture(good=2)
        (tmp_path / "video3").unlink(missing_ok=True)
        (tmp_path / "video4").touch()
        link.unlink(missing_ok=True)
        link.symlink_to("../video4")
        return FakeCapture(good=50, opens=len(opened) > 2)

    inner = CameraSource(f"camera:{tmp_path / 'video3'}", SourceOptions(read_timeout_s=0.1, max_frames=4), open_capture)
    frames = list(SupervisedSource(inner, inner.probe))
    assert opened[:3] == [str(tmp_path / "video3"), str(tmp_path / "video3"), str(tmp_path / "video4")]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert inner.probe() is True


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (f"camera:{'9' * 400}", "is not a camera"),
        (f"camera:/dev/{'a' * 400}", "is not a camera"),
        ("camera:0?fourcc=\xdfxyz", "is unknown"),
        (f"camera:0?width={'9' * 400}", "is unknown"),
        ("camera:rtsp://user:geheim@host/live", "not by a URL"),
        ("camera:user:geheim@host", "not by a URL"),
    ],
)
def test_what_no_camera_can_be_is_refused(where: str, told: str) -> None:
    with pytest.raises(OptionError, match=told) as caught:
        CameraSource(where, QUICK)
    assert "geheim" not in str(caught.value)


def test_blanks_around_a_url_do_not_make_it_a_path() -> None:
    assert open_source(" rtsp://user:geheim@host/live\n").name == "host-live"
