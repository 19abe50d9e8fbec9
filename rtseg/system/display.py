"""Checks whether a window can be shown on this machine.

OpenCV's Qt aborts the whole process (SIGABRT) if no display answers, or if the requested platform is not in its wheel.
Python code cannot catch that, so the display is contacted beforehand, over its own socket.
"""

from __future__ import annotations

import importlib.util
import os
import re
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Final

__all__ = ["choose_qt_platform", "connect_display", "display_answers", "display_available", "needs_display_server"]

_COOKIE: Final = b"MIT-MAGIC-COOKIE-1"


def display_available(timeout_s: float = 1.0) -> bool:
    """Whether a window can be opened: an X server accepts the connection, or Wayland answers and cv2 can use it.

    Always True on macOS and Windows, which need no display server.

    Args:
        timeout_s: how long to wait for each answer, in seconds.
    """
    if not needs_display_server():
        return True
    connection = connect_display(timeout_s)
    if connection is None:
        return False
    connection.close()
    return True


def needs_display_server() -> bool:
    """Whether this system shows windows through a display server, X or Wayland."""
    return sys.platform not in ("darwin", "win32")


def connect_display(timeout_s: float = 1.0) -> socket.socket | None:
    """Connect to the display; None if it does not answer.

    Keep the connection while windows are open, for ``display_answers``, and at least until the first one is: an X
    server (Xvfb) resets when it loses its last client and refuses connections meanwhile, so that Qt would abort.
    """
    display = os.environ.get("DISPLAY", "")
    connection = _x_connection(display, timeout_s) if display else None
    if connection is None and "wayland" in _qt_platforms(default={"wayland"}):
        connection = _wayland_connection(timeout_s)
    return connection


def display_answers(connection: socket.socket, wait_s: float = 0.0) -> bool:
    """Whether the display behind ``connection`` still runs. Waits ``wait_s`` seconds, unless it ends meanwhile."""
    deadline_s = time.monotonic() + wait_s
    try:
        while select.select([connection], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            if not connection.recv(1 << 16):
                return False
    except OSError:
        return False
    return True


def choose_qt_platform() -> None:
    """Prevent Qt from aborting because the environment names a platform that is not in its wheel.

    ``QT_QPA_PLATFORM=wayland`` is common on desktops, but the wheels of opencv-python contain only ``xcb``.
    Does nothing for an OpenCV that uses the Qt or GTK of the system.
    """
    bundled = _qt_platforms(default=set())
    requested = os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0].partition(";")[0]
    if bundled and requested not in bundled:
        os.environ["QT_QPA_PLATFORM"] = "xcb"


def _qt_platforms(*, default: set[str]) -> set[str]:
    """Names of the Qt platforms in the wheel of cv2; ``default`` if it has none and uses those of the system."""
    spec = importlib.util.find_spec("cv2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        plugins = Path(folder, "qt", "plugins", "platforms").glob("libq*.so")
        names = {re.split(r"[-.]", plugin.name.removeprefix("libq"))[0] for plugin in plugins}
        if names:
            return names
    return default


def _x_connection(display: str, timeout_s: float) -> socket.socket | None:
    match = re.fullmatch(r"(?:\w+/)?(.*?):(\d+)(?:\.\d+)?", display)
    if match is None:
        return None
    host, number = match[1].strip("[]"), int(match[2])
    addresses: list[str | tuple[str, int]] = [(host, 6000 + number)]
    if host in ("", "unix"):
        path = f"/tmp/.X11-unix/X{number}"  # servers on Linux also listen on the abstract name
        addresses = [f"\0{path}", path]
    for address in addresses:
        for cookie in (*_x_cookies(number), b""):
            connection = _x_connect(address, cookie, timeout_s)
            if connection is not None:
                return connection
    return None


def _x_cookies(number: int) -> list[bytes]:
    """The distinct keys for display ``number`` in the user's X authority file."""
    path = Path(os.environ.get("XAUTHORITY") or Path.home() / ".Xauthority")
    try:
        data = path.read_bytes()
    except OSError:
        return []
    cookies: list[bytes] = []
    while len(data) >= 2:
        data = data[2:]  # the family of the address
        fields: list[bytes] = []
        for _ in ("address", "number", "name", "key"):
            length = int.from_bytes(data[:2], "big")
            fields.append(data[2 : 2 + length])
            data = data[2 + length :]
        _, display, name, key = fields
        if name == _COOKIE and display in (b"", str(number).encode()) and key not in cookies:
            cookies.append(key)
    return cookies


def _x_connect(address: str | tuple[str, int], cookie: bytes, timeout_s: float) -> socket.socket | None:
    """Connect to an X server, by the connection setup of the X11 protocol (chapter 8); None if it refuses."""
    name = _COOKIE if cookie else b""
    hello = struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(name), len(cookie))
    hello += name + bytes(-len(name) % 4) + cookie + bytes(-len(cookie) % 4)
    try:
        connection = _connect(address, timeout_s)
    except OSError:
        return None
    try:
        connection.sendall(hello)
        if connection.recv(1) == b"\1":
            return connection
    except OSError:
        pass  # the same as a refusal
    connection.close()
    return None


def _wayland_connection(timeout_s: float) -> socket.socket | None:
    name = os.environ.get("WAYLAND_DISPLAY", "")
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    if not name or not (folder or name.startswith("/")):
        return None
    try:
        return _connect(str(Path(folder, name)), timeout_s)
    except OSError:
        return None


def _connect(address: str | tuple[str, int], timeout_s: float) -> socket.socket:
    """Connect to the path of a local socket or to a TCP (host, port)."""
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout_s)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout_s)
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection
