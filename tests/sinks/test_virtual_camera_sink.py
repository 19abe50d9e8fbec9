"""The virtual camera with a double of pyvirtualcam: its device needs a kernel module."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rtseg.errors import MissingExtra, OptionError, SinkError
from rtseg.frame import Frame
from rtseg.sinks import open_sinks
from rtseg.sinks.base import Sink

LABELS = np.zeros((48, 64), np.uint8)


class Camera:
    """What pyvirtualcam.Camera does, as far as it is used."""

    opened: list[Camera] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.width, self.height = settings["width"], settings["height"]
        self.images: list[np.ndarray] = []
        self.closed = False
        self.opened.append(self)

    def send(self, image: np.ndarray) -> None:
        if len(self.images) == 3:
            raise RuntimeError("device is busy")
        self.images.append(image.copy())

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    Camera.opened.clear()
    fake = SimpleNamespace(Camera=Camera, PixelFormat=SimpleNamespace(BGR="BGR"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", fake)


def open_camera(device: str, tiny_spec: Any) -> Sink:
    (sink,) = open_sinks(tiny_spec, outputs=[f"v4l2:{device}"], fps_hint=lambda: 30.0, live=True)
    return sink


def write(sink: Sink, index: int, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), index, np.uint8)
    sink.write(Frame(image, index, index / 30, 0.0), LABELS, image)


@pytest.mark.usefixtures("library")
def test_images_go_to_the_device_and_other_sizes_are_fitted_into_the_first(tiny_spec: Any) -> None:
    sink = open_camera("/dev/null", tiny_spec)
    write(sink, 100, (49, 63))
    write(sink, 101, (98, 126))
    write(sink, 102, (49, 21))
    sink.close()
    (camera,) = Camera.opened
    assert camera.settings | {"fps": 30.0, "device": "/dev/null", "fmt": "BGR"} == camera.settings
    assert [image.shape for image in camera.images] == [(50, 64, 3)] * 3
    assert [image[20, 32, 0] for image in camera.images] == [100, 101, 102]
    assert [image[20, 2, 0] for image in camera.images] == [100, 101, 0]
    assert camera.closed
    assert sink.written == 3


@pytest.mark.usefixtures("library")
def test_a_device_that_fails_ends_the_sink_with_what_to_check(tiny_spec: Any) -> None:
    sink = open_camera("/dev/null", tiny_spec)
    for index in range(3):
        write(sink, index, (48, 64))
    with pytest.raises(SinkError, match=r"virtual camera /dev/null ended \(device is busy\): is it a v4l2loopback"):
        write(sink, 3, (48, 64))
    sink.close()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("device", ["/dev/video-that-is-not-there", "/etc/hostname", "9"])
def test_what_is_no_device_is_refused_with_the_command_that_makes_one(device: str, tiny_spec: Any) -> None:
    with pytest.raises(OptionError, match="there is no such device: load the kernel module"):
        open_camera(device, tiny_spec)


def test_without_the_library_its_extra_is_named(tiny_spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(MissingExtra, match=r"pip install 'rtseg\[virtual-camera\]'"):
        open_camera("/dev/null", tiny_spec)
