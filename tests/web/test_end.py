"""How a page ends while something hangs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx
import pytest
from helpers.pages import TIMEOUT_S, serving

from rtseg.app.options import StreamOptions
from rtseg.web.options import PageOptions


class Hang:
    """A function that does not return while the test runs."""

    def __init__(self) -> None:
        self.has_begun, self._end = Event(), Event()

    def __call__(self, *arguments: object) -> None:
        self.has_begun.set()
        self._end.wait(10 * TIMEOUT_S)

    def end(self) -> None:
        self._end.set()


@pytest.fixture
def hang() -> Iterator[Hang]:
    opened = Hang()
    yield opened
    opened.end()


@pytest.mark.parametrize(
    ("function", "method", "path"),
    [
        ("painting.Painter.paint", "GET", "snapshot/0.jpg"),
        ("painting.Painter.paint", "GET", "stream/0.mjpg"),
        ("prediction.Prediction._label", "POST", "api/predict"),
        ("source_run.SourceRun.details", "GET", "api/sources/0"),
    ],
)
def test_a_request_that_hangs_does_not_keep_the_server_from_ending(
    endless: StreamOptions, monkeypatch: pytest.MonkeyPatch, hang: Hang, function: str, method: str, path: str
) -> None:
    monkeypatch.setattr(f"rtseg.web.{function}", hang)
    with ThreadPoolExecutor(1) as executor:
        with serving([endless], PageOptions(port=0)) as server:  # its end is awaited with a limit
            asked = executor.submit(httpx.request, method, server.address + path, timeout=4 * TIMEOUT_S)
            assert hang.has_begun.wait(TIMEOUT_S)
        assert asked.exception(TIMEOUT_S) is not None or asked.result().is_error
