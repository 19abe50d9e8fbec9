from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.xvfb import Screen, needs_xdotool, needs_xvfb, xvfb

from rtseg.errors import SinkError
from rtseg.sinks.window import WindowSink, _square_pixels

TITLE = "rtseg test"


@pytest.mark.parametrize(
    ("aspect", "shape"), [(1.0, (48, 60, 3)), (1.5, (48, 90, 3)), (0.75, (64, 60, 3)), (0.5, (96, 60, 3))]
)
def test_the_window_shows_square_pixels(aspect: float, shape: tuple[int, ...]) -> None:
    assert _square_pixels(np.zeros((48, 60, 3), np.uint8), aspect).shape == shape


SHOW = """
import sys, time
import numpy as np
from rtseg.errors import SinkClosed
from rtseg.frame import Frame
from rtseg.sinks.window import WindowSink
live, count, fps = sys.argv[1] == "live", int(sys.argv[2]), float(sys.argv[3])
image = np.full((360, 480, 3), (30, 160, 220), np.uint8)
sink = WindowSink("rtseg test", live=live)
start = None
try:
    for index in range(count):
        sink.write(Frame(image, index, 5 + index / fps, 0.0), image[..., 0], image)
        start = start or time.monotonic()
        print("shown", index, flush=True)
        if live:
            time.sleep(1 / fps)
    print("ended", round(time.monotonic() - start, 2), flush=True)
except SinkClosed as closed:
    print("closed", closed, flush=True)
sink.close()
sink.close()
"""


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    with xvfb(tmp_path_factory.mktemp("screen")) as running:
        yield running


def start(screen: Screen, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SHOW, *map(str, arguments)],
        env=screen.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def wait_until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def shown(output: str) -> int:
    return output.count("shown")


@needs_xvfb
def test_a_file_is_shown_at_its_own_speed(screen: Screen) -> None:
    output, _ = start(screen, "file", 31, 20).communicate(timeout=30)
    assert shown(output) == 31
    assert 1.45 <= float(output.split()[-1]) <= 2.5


@needs_xvfb
@needs_xdotool
@pytest.mark.parametrize("platform", ["", "wayland", "offscreen"])
def test_a_live_source_is_shown_immediately_on_any_requested_qt_platform(screen: Screen, platform: str) -> None:
    with start(screen, "live", 1000, 40, QT_QPA_PLATFORM=platform) as viewer:
        try:
            wait_until(lambda: bool(screen.windows(TITLE)))
            attempts = iter(range(1, 1000))

            def painted() -> bool:
                if next(attempts) % 20 == 0:
                    screen.map_again(TITLE)
                return bool((screen.pixels() == (30, 160, 220)).all(axis=2).mean() > 0.4)

            wait_until(painted)
        finally:
            viewer.kill()


@needs_xvfb
@needs_xdotool
@pytest.mark.parametrize("key", ["q", "Escape"])
@pytest.mark.parametrize("kind", ["file", "live"])
def test_q_and_escape_end_the_run(screen: Screen, kind: str, key: str) -> None:
    viewer = start(screen, kind, 1000, 30)
    wait_until(lambda: bool(screen.windows(TITLE)))
    screen.press(TITLE, key)
    output, _ = viewer.communicate(timeout=30)
    assert output.splitlines()[-1] == f"closed window {TITLE}: quit by the viewer"
    assert shown(output) < 1000


@needs_xvfb
@needs_xdotool
@pytest.mark.parametrize("kind", ["file", "live"])
def test_the_close_button_ends_the_run(screen: Screen, kind: str) -> None:
    viewer = start(screen, kind, 1000, 30)
    wait_until(lambda: bool(screen.windows(TITLE)))
    screen.click_close_button(TITLE)
    output, _ = viewer.communicate(timeout=30)
    assert output.splitlines()[-1] == f"closed window {TITLE}: closed by the viewer"


@needs_xvfb
@needs_xdotool
def test_space_pauses_and_resumes_a_file(screen: Screen) -> None:
    viewer = start(screen, "file", 45, 30)
    assert viewer.stdout is not None
    viewer.stdout.readline()
    wait_until(lambda: bool(screen.windows(TITLE)))
    screen.press(TITLE, "space")
    time.sleep(1.5)
    screen.press(TITLE, "space")
    output, _ = viewer.communicate(timeout=30)
    assert 2.5 <= float(output.split()[-1]) <= 5.0


@needs_xvfb
@needs_xdotool
def test_space_does_not_pause_a_live_run(screen: Screen) -> None:
    viewer = start(screen, "live", 60, 30)
    wait_until(lambda: bool(screen.windows(TITLE)))
    screen.press(TITLE, "space")
    output, _ = viewer.communicate(timeout=30)
    assert shown(output) == 60


def test_without_a_display_it_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match=r"there is no display \(DISPLAY is not set\): continue with --no-show"):
        WindowSink(TITLE, live=True)
    monkeypatch.setenv("DISPLAY", ":54321")
    with pytest.raises(SinkError, match="the display :54321 does not answer"):
        WindowSink(TITLE, live=True)


@needs_xvfb
def test_the_end_of_the_display_does_not_take_the_recording_with_it(tmp_path: Path, icnet_file: Path) -> None:
    (tmp_path / "screen").mkdir()
    stats = tmp_path / "s.part.jsonl"
    source = ["stream", "demo:6@96x64", "--model", str(icnet_file), "--size", "64x96"]
    with xvfb(tmp_path / "screen") as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "rtseg", *source, "--show", "--output", "o.mp4", "--stats", "s.jsonl"],
            env=screen.environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_until(lambda: stats.exists() and stats.read_bytes().count(b"\n") > 5, 60)
    out, _ = process.communicate(timeout=60)
    # Either the window ended alone, or Qt was at work and ended the process, after the outputs were finished.
    assert process.returncode == 2
    assert "the display does not answer any more" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "s.jsonl", "screen"]
    with av.open(tmp_path / "o.mp4") as container:
        frames = sum(1 for _ in container.decode(video=0))
    assert frames == (tmp_path / "s.jsonl").read_bytes().count(b"\n") > 5
