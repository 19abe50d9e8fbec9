"""How a page and its sources end, also while something hangs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest
from helpers.pages import TIMEOUT_S, serving

from rtseg.app.cameras import Camera
from rtseg.app.model_pool import ModelPool
from rtseg.app.options import StreamOptions
from rtseg.app.prometheus import StreamMetrics
from rtseg.errors import SinkError
from rtseg.web import source_run, sources
from rtseg.web.options import PageOptions
from rtseg.web.source_run import SourceRun
from rtseg.web.sources import Sources


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


@pytest.fixture
def one(endless: StreamOptions, tmp_path: Path) -> Iterator[Sources]:
    """One source, not yet started."""
    pool, metrics = ModelPool(), StreamMetrics()

    def open_run(number: int, camera: Camera) -> SourceRun:
        return SourceRun(number, camera, pool, metrics, max_side=320, recordings=tmp_path)

    opened = Sources([Camera("0", endless)], open_run)
    yield opened
    opened.stop()


def test_a_source_that_hangs_is_not_waited_for_without_a_limit(
    one: Sources, monkeypatch: pytest.MonkeyPatch, hang: Hang
) -> None:
    monkeypatch.setattr(sources, "_END_S", 0.2)
    (run,) = one
    monkeypatch.setattr(run.sink, "write", hang)
    one.start()
    assert hang.has_begun.wait(TIMEOUT_S)
    assert one.stop() == ["0 did not end within 0.2 s: it is left to itself"]
    hang.end()


def test_a_change_of_a_source_that_hangs_is_refused(one: Sources, monkeypatch: pytest.MonkeyPatch, hang: Hang) -> None:
    monkeypatch.setattr(source_run, "_JOIN_S", 0.2)
    (run,) = one
    monkeypatch.setattr(run.sink, "write", hang)
    one.start()
    assert hang.has_begun.wait(TIMEOUT_S)
    with pytest.raises(SinkError, match=r"did not end within 0\.2 s: start the server anew"):
        run.change(propagate="3")
    hang.end()


def test_a_source_that_is_changed_while_it_is_stopped_ends(one: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = one
    use = run._use

    def stop_and_use(stream: object) -> None:
        run.stop()  # as another thread may, after the new run was opened and before it is in its place
        use(stream)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "_use", stop_and_use)
    one.start()
    run.change(propagate="3")
    assert run.join(TIMEOUT_S)


def test_a_bug_that_ends_a_source_is_shown_and_raised_at_the_end(one: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*arguments: object) -> None:
        raise TypeError("a bug")

    (run,) = one
    monkeypatch.setattr(run.sink, "write", write)
    one.start()
    assert run._stream.join(TIMEOUT_S)
    assert run.state == "ended: TypeError: a bug"
    with pytest.raises(TypeError, match="a bug"):
        one.stop()
    run._stream.bug = None  # raised once: the fixture stops it again
