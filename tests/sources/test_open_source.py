from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import OptionError, SourceError, SourceNotFound
from rtseg.frame import Frame
from rtseg.sources import open_source
from rtseg.sources.base import Source
from rtseg.sources.options import SourceOptions


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("camera:0", "SupervisedSource"),
        ("rtsp://h/a", "SupervisedSource"),
        ("RTSPS://h/a", "SupervisedSource"),
        ("https://h/a.png", "ImagesSource"),
        ("http://h/snapshot.jpg?user=me&pwd=x", "ImagesSource"),
        ("rtsp://h/a.png", "SupervisedSource"),
        ("https://h/a?x=*.png", "SupervisedSource"),
        ("udp://@:5004", "SupervisedSource"),
    ],
)
def test_the_scheme_selects_the_source_without_opening_it(where: str, kind: str) -> None:
    assert type(open_source(where)).__name__ == kind


def test_the_kind_of_file_selects_the_source(tmp_path: Path) -> None:
    (tmp_path / "a.PNG").touch()
    (tmp_path / "b.mp4").touch()
    (tmp_path / "noname").touch()
    kinds = [type(open_source(tmp_path / name)).__name__ for name in ("", "a.PNG", "*.PNG", "b.mp4", "noname")]
    assert kinds == ["ImagesSource"] * 3 + ["VideoSource"] * 2


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a b.mp4").touch()
    assert open_source((tmp_path / "a b.mp4").as_uri()).name == "a b"


def test_a_path_object_is_always_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").touch()
    assert type(open_source(Path("demo"))).__name__ == "VideoSource"
    assert type(open_source("./demo")).__name__ == "VideoSource"


@pytest.mark.parametrize("where", ["", "  "])
def test_an_empty_source_is_an_option_error(where: str) -> None:
    with pytest.raises(OptionError, match="--source is empty"):
        open_source(where)


def test_an_unknown_scheme_is_an_option_error_without_the_password() -> None:
    with pytest.raises(OptionError, match=r"gopher.*known are http") as caught:
        open_source("gopher://me:word@host/a")
    assert "word" not in str(caught.value)
    assert str(caught.value).count(", ") < 15, "the schemes that people use, not all of fsspec"


@pytest.mark.parametrize(
    ("where", "instead"),
    [
        ("whep://me:word@host/a", "RTSP or HTTP"),
        ("webrtc://host/a", "RTSP or HTTP"),
        ("ndi://studio", "convert it to RTSP or SRT"),
        ("ONVIF://me:word@host", "give the rtsp:// address"),
    ],
)
def test_for_schemes_that_are_not_read_the_error_says_what_to_use_instead(where: str, instead: str) -> None:
    with pytest.raises(OptionError, match=instead) as caught:
        open_source(where)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "where", ["http://me:hunter2@[::1/a", "rtsp://me:hunter2@[x]y/a", "file://[x", "rtsp://me:hunter2@host:70000/a"]
)
def test_a_url_that_cannot_be_parsed_is_an_option_error_without_the_password(where: str) -> None:
    with pytest.raises(OptionError, match="not a valid URL") as caught:
        open_source(where)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("where", ["no/such.mp4", "concat:a.mp4|b.mp4", "subfile,,:a.mp4", "x" * 5000])
def test_a_missing_file_is_an_immediate_error(where: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(where)
    assert len(str(caught.value)) < 300 or "no file" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_for_a_bare_number_the_error_suggests_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceNotFound, match="camera:0"):
        open_source("0")


class Counter(Source):
    """Ten black frames, a tenth of a second apart."""

    closed = 0

    def __init__(self, options: SourceOptions, fail_at: int | None = None) -> None:
        super().__init__("counter", options)
        self.fail_at = fail_at

    def _read(self) -> Iterator[Frame]:
        try:
            for index in range(10):
                if index == self.fail_at:
                    raise SourceError("broken")
                yield Frame(np.zeros((2, 2, 3), np.uint8), index, index / 10, 0.0)
        finally:
            self.closed += 1


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({}, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        ({"start_s": 0.7}, [0.7, 0.8, 0.9]),
        ({"start_s": 0.65, "duration_s": 0.2}, [0.7, 0.8]),
        ({"duration_s": 0.3}, [0.0, 0.1, 0.2]),
        ({"stride": 4}, [0.0, 0.4, 0.8]),
        ({"max_frames": 2}, [0.0, 0.1]),
        ({"start_s": 0.8, "loop": True, "max_frames": 5}, [0.8, 0.9, 1.0, 1.1, 1.2]),
        ({"duration_s": 0.2, "loop": True, "max_frames": 5}, [0.0, 0.1, 0.2, 0.3, 0.4]),
        ({"stride": 3, "loop": True, "max_frames": 6}, [0.0, 0.3, 0.6, 0.9, 1.0, 1.3]),
    ],
)
def test_options_select_the_frames(options: dict[str, float], times: list[float]) -> None:
    source = Counter(SourceOptions(**options))  # type: ignore[arg-type]
    frames = list(source)
    assert [frame.pts_s for frame in frames] == pytest.approx(times)
    assert frames[0].index == 0
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))


def test_a_source_is_closed_however_it_ends() -> None:
    early, stopped, failing = Counter(SourceOptions()), Counter(SourceOptions()), Counter(SourceOptions(), 3)
    frames = iter(early)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    for _ in stopped:
        stopped.stop()
    with pytest.raises(SourceError, match="broken"):
        list(failing)
    assert (early.closed, stopped.closed, failing.closed) == (1, 1, 1)


def test_a_start_after_the_end_is_an_error_with_loop_too() -> None:
    with pytest.raises(SourceError, match="ends before --start 5"):
        list(Counter(SourceOptions(start_s=5, loop=True)))


def test_the_sources_load_libraries_only_when_needed() -> None:
    code = "import sys, rtseg.sources; print(sorted({'cv2', 'av'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_without_libgl_the_error_names_both_remedies(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"
    )
    (tmp_path / "a.png").touch()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from rtseg.errors import MissingExtra\nfrom rtseg.sources import open_source\n"
        f"try:\n    open_source({str(tmp_path / 'a.png')!r})\nexcept MissingExtra as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "libGL.so.1" in result.stdout
    assert "apt-get install libgl1 libglib2.0-0" in result.stdout
    assert "opencv-python-headless" in result.stdout
    assert result.stdout.count("\n") == 1


def test_the_limits_of_opencv_are_set_before_it_is_loaded() -> None:
    code = "import os; from rtseg.system.opencv import cv2; print(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert int(result.stdout) == 2**27


def test_the_names_of_two_channels_of_a_recorder_differ_and_hold_no_secret() -> None:
    url = "http://user:geheim@192.0.2.1:81/realmonitor?channel={}&subtype=0&token=abc&pwd=geheim&streamid=abc"
    names = [open_source(url.format(channel)).name for channel in (1, 2)]
    assert names == [f"192.0.2.1-realmonitor-channel_{channel}-subtype_0" for channel in (1, 2)]
