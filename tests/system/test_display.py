from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from rtseg.system.display import choose_qt_platform, display_available

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="X and Wayland are only used on Linux")


@pytest.fixture(autouse=True)
def _no_display(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@contextmanager
def x_server(answer: bytes | None) -> Iterator[str]:
    """Start an X server on TCP that sends ``answer``, or nothing. Yields the name of its display."""
    listener = socket.socket()
    for number in range(700, 800):
        try:
            listener.bind(("127.0.0.1", 6000 + number))
            break
        except OSError:
            continue
    listener.listen()
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            if answer is not None:
                connection.recv(12)
                connection.sendall(answer)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{number}.0"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
        for connection in connections:
            connection.close()


def test_without_a_named_display_none_answers() -> None:
    assert not display_available()


@pytest.mark.parametrize("display", [":54321", "127.0.0.1:799", "nonsense", ":", "/tmp/x:0"])
def test_a_missing_display_does_not_answer(monkeypatch: pytest.MonkeyPatch, display: str) -> None:
    monkeypatch.setenv("DISPLAY", display)
    assert not display_available()


@pytest.mark.parametrize(("answer", "good"), [(b"\1" + bytes(7), True), (b"\0" + bytes(7), False)])
def test_a_display_answers_only_if_it_accepts_the_connection(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, good: bool
) -> None:
    with x_server(answer) as display:
        monkeypatch.setenv("DISPLAY", display)
        assert display_available() == good


def test_a_display_that_does_not_answer_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with x_server(None) as display:
        monkeypatch.setenv("DISPLAY", display)
        start_s = time.monotonic()
        assert not display_available(timeout_s=0.3)
        assert time.monotonic() - start_s < 2


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")
def test_a_real_server_is_contacted_with_the_key_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = os.urandom(16)
    fields = (b"anywhere", b"", b"MIT-MAGIC-COOKIE-1", key)
    entry = (256).to_bytes(2, "big") + b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    (tmp_path / "server").write_bytes(entry)
    command = ["Xvfb", "-displayfd", "1", "-nolisten", "tcp", "-auth", str(tmp_path / "server")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as xvfb:
        assert xvfb.stdout is not None
        try:
            monkeypatch.setenv("DISPLAY", f":{xvfb.stdout.readline().strip()}")
            assert not display_available(), "without the key"
            monkeypatch.setenv("XAUTHORITY", str(tmp_path / "authority"))
            assert not display_available(), "without a file of keys"
            (tmp_path / "authority").write_bytes(entry)
            assert display_available()
            (tmp_path / "authority").write_bytes(entry[:-3] + b"no!")
            assert not display_available(), "with a wrong key"
            (tmp_path / "authority").write_bytes(entry[:9])
            assert not display_available(), "with a damaged file"
        finally:
            xvfb.terminate()


def test_wayland_counts_only_where_opencv_can_use_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import cv2

    plugins = Path(cv2.__file__).parent / "qt" / "plugins" / "platforms"
    usable = not plugins.is_dir() or any("wayland" in plugin.name for plugin in plugins.iterdir())
    with socket.socket(socket.AF_UNIX) as compositor:
        compositor.bind(str(tmp_path / "wayland-9"))
        compositor.listen()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-9")
        assert display_available() == usable


def test_qt_gets_a_platform_that_is_in_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    if not (Path(cv2.__file__).parent / "qt" / "plugins" / "platforms" / "libqxcb.so").exists():
        pytest.skip("this OpenCV contains no Qt")
    monkeypatch.setenv("QT_QPA_PLATFORM", "wayland;xcb")
    choose_qt_platform()
    assert os.environ["QT_QPA_PLATFORM"] == "xcb"
