"""A virtual screen, with simulated user input."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

WIDTH, HEIGHT = 640, 480

needs_xvfb = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")
needs_xdotool = pytest.mark.skipif(shutil.which("xdotool") is None, reason="xdotool is not installed")


@dataclass(frozen=True)
class Screen:
    """A running Xvfb."""

    display: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in ("XAUTHORITY", "QT_QPA_PLATFORM")}
        return {**kept, "DISPLAY": self.display}

    def pixels(self) -> np.ndarray:
        """The contents of the screen, uint8 BGR (HEIGHT, WIDTH, 3)."""
        data = (self.folder / "Xvfb_screen0").read_bytes()
        header = int.from_bytes(data[:4], "big") + 12 * int.from_bytes(data[76:80], "big")
        screen = np.frombuffer(data, np.uint8, WIDTH * HEIGHT * 4, header)
        return screen.reshape(HEIGHT, WIDTH, 4)[..., :3]

    def fill(self, left: int, top: int, width: int, height: int, rgb: int) -> None:
        """Draw a rectangle on the empty screen; it is there when this returns."""
        x11 = ctypes.CDLL("libX11.so.6")
        for function in (x11.XOpenDisplay, x11.XCreateGC):
            function.restype = ctypes.c_void_p
        x11.XDefaultRootWindow.restype = ctypes.c_ulong
        connection = ctypes.c_void_p(x11.XOpenDisplay(self.display.encode()))
        root = ctypes.c_ulong(x11.XDefaultRootWindow(connection))
        pen = ctypes.c_void_p(x11.XCreateGC(connection, root, ctypes.c_ulong(0), None))
        x11.XSetForeground(connection, pen, ctypes.c_ulong(rgb))
        x11.XFillRectangle(connection, root, pen, left, top, width, height)
        x11.XSync(connection, 0)
        x11.XCloseDisplay(connection)

    def windows(self, title: str) -> list[int]:
        done = subprocess.run(
            ["xdotool", "search", "--name", title],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(line) for line in done.stdout.split()]

    def press(self, title: str, key: str) -> None:
        for window in self.windows(title):
            command = ["xdotool", "key", "--window", str(window), key]
            subprocess.run(command, env=self.environment, capture_output=True, check=False)

    def map_again(self, title: str) -> None:
        """Hide and show the window: without a window manager, Qt misses the first Expose event in 1 of 7 starts."""
        for window in self.windows(title):
            for action in ("windowunmap", "windowmap"):
                command = ["xdotool", action, str(window)]
                subprocess.run(command, env=self.environment, capture_output=True, check=False)

    def click_close_button(self, title: str) -> None:
        """Send the event of the close button. Without a window manager there is no button."""
        for window in self.windows(title):
            _send_delete(self.display, window)


@contextmanager
def xvfb(folder: Path, *arguments: str) -> Iterator[Screen]:
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-fbdir", str(folder)]
    with subprocess.Popen(
        [*command, "-noreset", "-nolisten", "tcp", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            yield Screen(f":{server.stdout.readline().strip()}", folder)
        finally:
            server.terminate()


class _ClientMessage(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("room", ctypes.c_long * 24),  # the union XEvent is larger
    )


def _send_delete(display: str, window: int) -> None:
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    connection = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))
    protocols = x11.XInternAtom(connection, b"WM_PROTOCOLS", 0)
    delete = x11.XInternAtom(connection, b"WM_DELETE_WINDOW", 0)
    event = _ClientMessage(type=33, window=window, message_type=protocols, format=32)
    event.data[0] = delete
    x11.XSendEvent(connection, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(event))
    x11.XCloseDisplay(connection)
