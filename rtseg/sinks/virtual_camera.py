"""Shows the rendered images as a camera that other programs can open: v4l2loopback, through pyvirtualcam."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from rtseg.errors import MissingExtra, OptionError, SinkError
from rtseg.frame import Frame, Image, Labels
from rtseg.sinks._fit import fit
from rtseg.sinks._playback import Playback
from rtseg.sinks.base import Sink

__all__ = ["VirtualCameraSink"]


class VirtualCameraSink(Sink):
    """Writes the rendered images to a video device of the kernel module v4l2loopback.

    An odd side is padded to an even one. Images of another size than the first are fitted into it, with black borders
    where their shape differs: programs that read the device do not expect another size. The frames of a file are
    shown at its own speed.

    Args:
        device: e.g. ``/dev/video9``.
        fps_hint: returns the nominal frame rate of the source, for programs that ask the camera.
        live: whether frames come from a camera or stream, which cannot wait.
        stop: ends every wait for the time of a frame once set.

    Raises:
        OptionError: ``device`` is no device.
        MissingExtra: pyvirtualcam is not installed.
    """

    kind = "camera"

    def __init__(
        self,
        device: str,
        *,
        fps_hint: Callable[[], float | None] = lambda: None,
        live: bool = False,
        stop: Event | None = None,
    ) -> None:
        self.name = f"virtual camera {device}"
        self._device = device
        self._fps_hint = fps_hint
        self._live = live
        self._playback = Playback(stop)
        self._camera: Any = None
        self._size: tuple[int, int] | None = None
        path = Path(device)
        if not path.is_absolute() or not path.exists() or not stat.S_ISCHR(path.stat().st_mode):
            raise OptionError(
                f"{self.name}: there is no such device: load the kernel module (sudo modprobe v4l2loopback "
                "video_nr=9) and write v4l2:/dev/video9"
            )
        try:
            import pyvirtualcam
        except ImportError as error:
            raise MissingExtra.for_feature(self.name, "pyvirtualcam", "virtual-camera") from error
        self._library: Any = pyvirtualcam

    def write(self, frame: Frame, labels: Labels, rendered: Image | None) -> None:
        """Show ``rendered``; see ``Sink``."""
        if rendered is None:
            raise ValueError(f"{self.name} needs the rendered image")
        if not self._live:
            self._playback.wait_for(frame.pts_s)
        if self._size is None:
            self._size = rendered.shape[0], rendered.shape[1]
        if rendered.shape[:2] != self._size:
            rendered, _ = fit(rendered, self._size)
        height, width = self._size
        if height % 2 or width % 2:
            rendered = np.pad(rendered, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        try:
            if self._camera is None:
                self._camera = self._open(rendered)
            self._camera.send(np.ascontiguousarray(rendered))
        except (RuntimeError, OSError, ValueError) as error:
            raise SinkError(
                f"{self.name} ended ({error}): is it a v4l2loopback device that no one else feeds?"
            ) from error
        self.written += 1

    def _open(self, image: Image) -> Any:
        fps = self._fps_hint()
        return self._library.Camera(
            width=image.shape[1],
            height=image.shape[0],
            fps=fps if fps and 1 <= fps <= 1000 else 25.0,
            fmt=self._library.PixelFormat.BGR,
            device=self._device,
            backend="v4l2loopback",
        )

    def close(self) -> None:
        """Close the device; see ``Sink``."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
