"""Screens as sources, with a virtual X11 display."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from helpers.xvfb import HEIGHT, WIDTH, Screen, needs_xvfb, xvfb

from rtseg.errors import OptionError, SourceError
from rtseg.frame import Frame
from rtseg.sources import open_source
from rtseg.sources.options import SourceOptions
from rtseg.sources.screen import ScreenSource

pytest.importorskip("mss", reason="mss is not installed")


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    with xvfb(tmp_path_factory.mktemp("screen")) as running:
        yield running


@pytest.fixture
def display(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("DISPLAY", screen.display)
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
    return screen


def read(where: str, count: int, **options: float) -> list[Frame]:
    source = ScreenSource(where, SourceOptions(**options))  # type: ignore[arg-type]
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == count:
            source.stop()
    return frames


@needs_xvfb
def test_images_have_the_size_and_the_colours_of_the_screen(display: Screen) -> None:
    display.fill(100, 50, 160, 120, 0xE6140A)
    (frame,) = read("screen", 1)
    assert frame.image.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(frame.image, display.pixels())
    assert (frame.image[50:170, 100:260] == (0x0A, 0x14, 0xE6)).all()
    assert not frame.image[:50].any()
    (part,) = read("screen:40x30+90+40", 1)
    assert np.array_equal(part.image, frame.image[40:70, 90:130])


@needs_xvfb
def test_times_grow_and_a_still_screen_is_no_fault(display: Screen) -> None:
    frames = read("screen:64x48", 6, fps=20.0)
    assert [frame.index for frame in frames] == list(range(6))
    assert (np.diff([frame.pts_s for frame in frames]) > 0).all()
    source = open_source("screen", SourceOptions(freeze_timeout_s=0.01))
    assert source.live
    seen = 0
    for _ in source:  # a black screen that does not change
        seen += 1
        if seen == 5:
            source.stop()
    assert seen == 5


@needs_xvfb
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("screen:7", "there is no screen 7: give 1 to 1, or 0 for all"),
        ("screen:600x480+100+0", "reaches beyond the screen of 640x480: give a smaller part"),
    ],
)
def test_what_is_not_there_is_named(where: str, message: str, display: Screen) -> None:
    with pytest.raises(SourceError, match=message):
        read(where, 1)


@pytest.mark.parametrize("where", ["screen:left", "screen:0x10", "screen:10x", "screen:1280x720-5", "screen:\uff11"])
def test_other_names_are_refused(where: str) -> None:
    with pytest.raises(OptionError, match=r"^screen:"):
        ScreenSource(where, SourceOptions())


def test_a_missing_display_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
    monkeypatch.setenv("DISPLAY", ":4242")
    with pytest.raises(SourceError, match=r"the screen cannot be read .*does DISPLAY name one"):
        read("screen", 1)


def test_wayland_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_SESSION_TYPE", "wayland")
    with pytest.raises(SourceError, match="Wayland lets no program read the screen without asking"):
        read("screen", 1)


@needs_xvfb
def test_a_display_that_dies_is_named_and_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_SESSION_TYPE", raising=False)
    with xvfb(tmp_path) as screen:
        monkeypatch.setenv("DISPLAY", screen.display)
        frames = iter(ScreenSource("screen", SourceOptions()))
        next(frames)
    with pytest.raises(SourceError, match=r"screen-1 cannot be read any more \(.+\): is the display there"):
        list(islice(frames, 100))
    source = open_source("screen", SourceOptions(max_downtime_s=0.5))
    with pytest.raises(SourceError, match="the screen cannot be read"):
        next(iter(source))
