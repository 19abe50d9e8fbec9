"""Whether a window can be shown here.

OpenCV's Qt aborts the whole process (SIGABRT) where no display answers or the platform it is told to use is
not in its wheel. No Python code can catch that, so it is asked before, over the display's own socket.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import struct
import sys
from pathlib import Path
from typing import Final

__all__ = ["asks_a_server", "choose_qt_platform", "connect_display", "display_answers"]

_COOKIE: Final = b"MIT-MAGIC-COOKIE-1"


def display_answers(timeout_s: float = 1.0) -> bool:
    """Whether a window could be opened: an X server lets us in, or Wayland answers and cv2 can use it.

    Always True on macOS and Windows, which show windows without a server.

    Args:
        timeout_s: how long to wait for each answer, in seconds.
    """
    if not asks_a_server():
        return True
    connection = connect_display(timeout_s)
    if connection is None:
        return False
    connection.close()
    return True


def asks_a_server() -> bool:
    """Whether windows of this system are shown by a server that must be asked."""
    return sys.platform not in ("darwin", "win32")


def connect_display(timeout_s: float = 1.0) -> socket.socket | None:
    """The connection that shows that a display answers, or None.

    Whoever opens a window at once keeps it until then: an X server (Xvfb) that loses its last client starts
    anew, refuses connections while it does, and Qt would abort.
    """
    display = os.environ.get("DISPLAY", "")
    connection = _x_connection(display, timeout_s) if display else None
    if connection is None and "wayland" in _qt_platforms(otherwise={"wayland"}):
        connection = _wayland_connection(timeout_s)
    return connection


def choose_qt_platform() -> None:
    """Keep Qt from aborting because the environment names a platform that its wheel lacks.

    ``QT_QPA_PLATFORM=wayland`` is common on desktops, and the wheels of opencv-python bring ``xcb`` alone.
    Does nothing for an OpenCV that uses the Qt or GTK of the system.
    """
    brought = _qt_platforms(otherwise=set())
    wanted = os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0].partition(";")[0]
    if brought and wanted not in brought:
        os.environ["QT_QPA_PLATFORM"] = "xcb"


def _qt_platforms(*, otherwise: set[str]) -> set[str]:
    """Names of the Qt platforms in cv2's wheel; ``otherwise`` where it brings none and uses the system's."""
    spec = importlib.util.find_spec("cv2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        plugins = Path(folder, "qt", "plugins", "platforms").glob("libq*.so")
        names = {re.split(r"[-.]", plugin.name.removeprefix("libq"))[0] for plugin in plugins}
        if names:
            return names
    return otherwise


def _x_connection(display: str, timeout_s: float) -> socket.socket | None:
    match = re.fullmatch(r"(?:\w+/)?(.*?):(\d+)(?:\.\d+)?", display)
    if match is None:
        return None
    host, number = match[1].strip("[]"), int(match[2])
    addresses: list[str | tuple[str, int]] = [(host, 6000 + number)]
    if host in ("", "unix"):
        path = f"/tmp/.X11-unix/X{number}"  # Linux servers listen under the abstract name, too
        addresses = [f"\0{path}", path]
    for address in addresses:
        for cookie in (*_x_cookies(number), b""):
            connection = _x_greet(address, cookie, timeout_s)
            if connection is not None:
                return connection
    return None


def _x_cookies(number: int) -> list[bytes]:
    """The keys in the user's X authority file for display ``number``, each once."""
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
        _, wanted, name, key = fields
        if name == _COOKIE and wanted in (b"", str(number).encode()) and key not in cookies:
            cookies.append(key)
    return cookies


def _x_greet(address: str | tuple[str, int], cookie: bytes, timeout_s: float) -> socket.socket | None:
    """The connection, if an X server lets us in, by the connection setup of the X11 protocol (chapter 8)."""
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
        pass  # the answer is the same: not let in
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
    """A connection to a local socket's path or to a TCP (host, port)."""
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
