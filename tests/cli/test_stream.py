"""``rtseg stream`` from end to end: a street that rtseg draws, a model of the tests, and every way to end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from helpers.clips import write_clip
from helpers.doubles import blue_graph, wide_spec

from rtseg.app import stream as app_stream
from rtseg.camvid_classes import CLASSES, PALETTE
from rtseg.cli import main
from rtseg.model_file.spec import file_sha256, write_spec
from rtseg.system.atomic_files import locked_output

WIDTH, HEIGHT = 160, 120
DEMO = f"demo:0.6@{WIDTH}x{HEIGHT}"
"""Fifteen frames."""
TIMEOUT_S = 60

REPORT_KEYS = {
    "source",
    "model",
    "model_sha256",
    "backend",
    "precision",
    "frames_read",
    "frames_segmented",
    "frames_written",
    "frames_dropped",
    "fps",
    "latency_ms",
    "stages",
    "wall_s",
    "versions",
}

pytestmark = pytest.mark.usefixtures("no_thread_left")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, on a machine without a display."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    return place


@pytest.fixture
def stream(icnet_file: Path) -> Callable[..., int]:
    """``rtseg stream`` of the demo with the tiny model, and more options."""

    def call(*options: str | Path, source: str = DEMO) -> int:
        return main(["stream", "--source", source, "--model", str(icnet_file), *map(str, options)])

    return call


def frames_of(path: Path) -> list[tuple[float, np.ndarray]]:
    """Time in seconds and RGB image of each frame of a video."""
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def read_json(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


class TestSource:
    @pytest.mark.parametrize("words", [[DEMO], ["--source", DEMO], ["-s", DEMO], [DEMO, "--source", DEMO]])
    def test_it_is_given_first_or_as_an_option(self, icnet_file: Path, folder: Path, words: list[str]) -> None:
        options = ["--model", str(icnet_file), "--output", "null", "--report", "run.json", "--max-frames", "1"]
        assert main(["stream", *words, *options]) == 0
        assert read_json(folder / "run.json")["source"] == DEMO

    def test_without_one_and_without_a_camera_examples_are_given(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("rtseg.sources.camera.find_cameras", list)
        assert main(["stream"]) == 2
        said = one_line(capsys.readouterr().err)
        assert said.startswith("rtseg: no source is given and no camera was found: try `rtseg stream dashcam.mp4`")
        assert said.count("`rtseg stream ") == 3
        assert names(folder) == set()

    def test_without_one_the_first_camera_is_taken(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("rtseg.sources.camera.find_cameras", lambda: ["/dev/video97", "/dev/video98"])
        assert main(["stream", "--output", "null"]) == 2
        assert "there is no camera /dev/video97" in one_line(capsys.readouterr().err)

    @pytest.mark.parametrize("source", [f"demo:@{WIDTH}x{HEIGHT}", "fringes:@320x320"])
    def test_one_that_never_ends_stops_after_a_minute_of_video_and_says_so(
        self,
        stream: Callable[..., int],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        source: str,
    ) -> None:
        assert app_stream._LIMIT_S == 60
        monkeypatch.setattr(app_stream, "_LIMIT_S", 0.2)
        assert stream("--output", "out.mp4", source=source) == 0
        name = source.partition(":")[0]
        notice = f"{name} never ends: stopping after 0.2 s of video; --duration sets another length\n"
        assert capsys.readouterr().out.count(notice) == 1
        assert len(frames_of(folder / "out.mp4")) == 5

    @pytest.mark.parametrize("limit", [["--duration", "0.4"], ["--max-frames", "10"]])
    def test_another_limit_is_kept(
        self,
        stream: Callable[..., int],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        limit: list[str],
    ) -> None:
        monkeypatch.setattr(app_stream, "_LIMIT_S", 0.2)
        assert stream("--output", "out.mp4", *limit, source=f"demo:@{WIDTH}x{HEIGHT}") == 0
        assert "never ends" not in capsys.readouterr().out
        assert len(frames_of(folder / "out.mp4")) == 10

    def test_images_have_the_frame_rate_that_was_asked_for_and_so_has_their_video(
        self, stream: Callable[..., int], folder: Path
    ) -> None:
        (folder / "images").mkdir()
        for number in range(5):
            PIL.Image.new("RGB", (96, 64), (90, 100, 110)).save(folder / "images" / f"{number}.png")
        assert stream("--fps", "10", "--output", "out.mp4", "--stats", "s.jsonl", source="images") == 0
        seconds = pytest.approx([0.1 * number for number in range(5)], abs=1e-4)
        assert [json.loads(line)["pts_s"] for line in (folder / "s.jsonl").read_text().splitlines()] == seconds
        assert [time_s for time_s, _ in frames_of(folder / "out.mp4")] == seconds
        with av.open(str(folder / "out.mp4")) as container:
            assert container.streams.video[0].average_rate == 10

    @pytest.mark.parametrize("source", [DEMO, "fringes:1", "rtsp://127.0.0.1:9/live", "clip.mp4"])
    def test_a_source_with_a_frame_rate_of_its_own_refuses_another(
        self, stream: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str], source: str
    ) -> None:
        write_clip(folder / "clip.mp4")
        assert stream("--fps", "10", source=source) == 2
        assert "has a frame rate of its own; leave --fps out" in one_line(capsys.readouterr().err)


class TestOutputs:
    def test_the_video_has_every_frame_at_its_time(self, stream: Callable[..., int], folder: Path) -> None:
        assert stream("--output", "out.mp4") == 0
        assert names(folder) == {"out.mp4"}
        frames = frames_of(folder / "out.mp4")
        assert [time_s for time_s, _ in frames] == pytest.approx([index / 25 for index in range(15)], abs=1e-4)
        assert {image.shape for _, image in frames} == {(HEIGHT, WIDTH, 3)}

    def test_masks_are_palette_images_of_the_frames_size_in_the_colours_of_the_classes(
        self, stream: Callable[..., int], folder: Path
    ) -> None:
        assert stream("--masks", "masks", "--max-frames", "3") == 0
        assert names(folder) == {"masks"}
        assert names(folder / "masks") == {"000000.png", "000001.png", "000002.png"}
        for path in (folder / "masks").iterdir():
            with PIL.Image.open(path) as mask:
                assert (mask.mode, mask.size) == ("P", (WIDTH, HEIGHT))
                assert np.asarray(mask).max() < len(CLASSES)
                palette = mask.getpalette()
            assert palette is not None
            assert palette[: 3 * len(PALETTE)] == [value for colour in PALETTE for value in colour]

    def test_statistics_have_a_line_for_every_frame_with_the_share_of_every_class(
        self, stream: Callable[..., int], folder: Path
    ) -> None:
        assert stream("--stats", "stats.jsonl", "--masks", "masks") == 0
        lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
        assert [line["index"] for line in lines] == list(range(15))
        for line in lines:
            assert line["pts_s"] == pytest.approx(line["index"] / 25)
            assert tuple(line["classes"]) == CLASSES
            assert sum(line["classes"].values()) == pytest.approx(1, abs=1e-3)
            with PIL.Image.open(folder / "masks" / f"{line['index']:06d}.png") as mask:
                labels = np.asarray(mask)
            for number, name in enumerate(CLASSES):
                assert line["classes"][name] == pytest.approx((labels == number).mean(), abs=1e-4)

    def test_the_report_says_what_ran_and_how(self, stream: Callable[..., int], folder: Path, icnet_file: Path) -> None:
        assert stream("--output", "null", "--report", "run.json") == 0
        assert names(folder) == {"run.json"}
        report = read_json(folder / "run.json")
        assert set(report) >= REPORT_KEYS
        assert (report["source"], report["model"], report["backend"]) == (DEMO, "tiny", "openvino")
        assert report["model_sha256"] == file_sha256(icnet_file)
        assert report["precision"] in ("bf16", "fp32")
        assert report["ended"] == "end of source"
        assert [report[f"frames_{what}"] for what in ("read", "segmented", "written", "dropped")] == [15, 15, 15, 0]
        assert set(report["latency_ms"]) == {"p50", "p95", "p99", "max"}
        assert set(report["stages"]) == {"read", "prepare", "infer", "render", "null"}
        for figures in report["stages"].values():
            assert set(figures) >= {"mean_ms", "p50_ms", "p95_ms", "p99_ms"}
        assert {"rtseg", "python", "numpy", "openvino"} <= set(report["versions"])
        assert report["fps"] > 0
        assert report["wall_s"] > 0

    def test_without_a_display_and_an_output_a_video_is_written_and_named(
        self, stream: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert stream("--max-frames", "2") == 0
        assert names(folder) == {"demo-rtseg.mp4"}
        assert len(frames_of(folder / "demo-rtseg.mp4")) == 2
        said = capsys.readouterr()
        assert "wrote video demo-rtseg.mp4" in said.out
        assert said.err == ""

    def test_a_report_alone_is_no_output_so_that_the_video_is_still_written(
        self, stream: Callable[..., int], folder: Path
    ) -> None:
        assert stream("--max-frames", "2", "--no-show", "--report", "run.json") == 0
        assert names(folder) == {"demo-rtseg.mp4", "run.json"}

    def test_null_keeps_nothing(
        self, stream: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert stream("--no-show", "--output", "null") == 0
        assert names(folder) == set()
        assert "end of source: 15 frames" in capsys.readouterr().out

    def test_quiet_says_nothing(self, stream: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
        assert stream("--output", "null", "--quiet", "--max-frames", "2") == 0
        assert capfd.readouterr() == ("", "")

    def test_all_results_of_one_run_are_of_the_same_frames(self, stream: Callable[..., int], folder: Path) -> None:
        assert stream("--output", "a.mkv", "--masks", "m", "--stats", "s.jsonl", "--report", "r.json") == 0
        assert read_json(folder / "r.json")["frames_written"] == 15
        assert len(frames_of(folder / "a.mkv")) == 15
        assert len(names(folder / "m")) == 15
        assert len((folder / "s.jsonl").read_text().splitlines()) == 15

    @pytest.mark.parametrize("option", ["--output out.mp4", "--stats s.jsonl", "--report run.json", "--masks masks"])
    def test_an_earlier_result_is_replaced_only_if_that_is_asked_for(
        self, stream: Callable[..., int], folder: Path, option: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--output", "null", *option.split(), "--quiet"]
        assert stream(*options, "--max-frames", "3") == 0
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert stream(*options, "--max-frames", "5") == 2
        said = one_line(capfd.readouterr().err)
        assert option.split()[1] in said
        assert "--overwrite" in said
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
        assert stream(*options, "--max-frames", "5", "--overwrite") == 0
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} != before
        assert names(folder) == {option.split()[1]}

    def test_default_names_of_several_runs_are_numbered(self, stream: Callable[..., int], folder: Path) -> None:
        for frames in (2, 3, 4):
            assert stream("--no-show", "--max-frames", str(frames), "--quiet") == 0
        assert sorted(len(frames_of(path)) for path in folder.glob("*-rtseg*.mp4")) == [2, 3, 4]


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "times_s"),
        [
            (["--max-frames", "4"], [0.0, 0.04, 0.08, 0.12]),
            (["--stride", "5"], [0.0, 0.2, 0.4]),
            (["--start", "0.5"], [0.52, 0.56]),
            (["--start", "0.2", "--duration", "0.12"], [0.2, 0.24, 0.28]),
            (["--loop", "--max-frames", "17", "--stride", "4"], [0.04 * 4 * step for step in range(4)] + [0.6]),
        ],
    )
    def test_the_part_that_was_asked_for_is_read(
        self, stream: Callable[..., int], folder: Path, options: list[str], times_s: list[float]
    ) -> None:
        assert stream("--stats", "s.jsonl", *options) == 0
        got = [json.loads(line)["pts_s"] for line in (folder / "s.jsonl").read_text().splitlines()]
        assert got[: len(times_s)] == pytest.approx(times_s)
        assert len(got) == (17 if "--loop" in options else len(times_s))

    def test_side_by_side_is_twice_as_wide(self, stream: Callable[..., int], folder: Path) -> None:
        assert stream("--output", "out.mp4", "--view", "side", "--max-frames", "2") == 0
        assert {image.shape for _, image in frames_of(folder / "out.mp4")} == {(HEIGHT, 2 * WIDTH, 3)}

    def test_the_view_of_the_mask_alone_shows_the_colours_of_the_classes_but_for_hidden_ones(
        self, stream: Callable[..., int], folder: Path
    ) -> None:
        assert stream("--output", "a.mp4", "--view", "mask", "--masks", "m", "--max-frames", "1") == 0
        with PIL.Image.open(folder / "m" / "000000.png") as mask:
            labels = np.asarray(mask)
        wanted = np.array(PALETTE)[labels]
        (_, image), *_ = frames_of(folder / "a.mp4")
        assert np.median(np.abs(image.astype(int) - wanted)) <= 6  # H.264 keeps half of the colour
        most = int(np.bincount(labels.ravel()).argmax())
        options = ["--output", "b.mp4", "--view", "mask", "--hide", CLASSES[most].upper(), "--max-frames", "1"]
        assert stream(*options) == 0
        (_, hidden), *_ = frames_of(folder / "b.mp4")
        assert np.median(hidden[labels == most]) <= 20
        options = ["--output", "c.mp4", "--view", "mask", "--only", CLASSES[most].upper(), "--max-frames", "1"]
        assert stream(*options) == 0
        (_, only), *_ = frames_of(folder / "c.mp4")
        assert np.median(np.abs(only[labels == most].astype(int) - PALETTE[most])) <= 6
        assert np.median(only[labels != most]) <= 20

    def test_another_size_is_reported_and_the_results_keep_the_size_of_the_frames(
        self, stream: Callable[..., int], folder: Path
    ) -> None:
        assert stream("--size", "96x160", "--masks", "m", "--report", "r.json", "--max-frames", "1") == 0
        assert read_json(folder / "r.json")["size"] == [96, 160]
        with PIL.Image.open(folder / "m" / "000000.png") as mask:
            assert mask.size == (WIDTH, HEIGHT)

    @pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "torch"])
    def test_every_backend_can_be_asked_for(self, stream: Callable[..., int], folder: Path, backend: str) -> None:
        options = ["--backend", backend, "--precision", "fp32", "--report", "r.json", "--output", "null"]
        assert stream(*options, "--max-frames", "3", "--legend", "--contours", "--alpha", "0.7") == 0
        report = read_json(folder / "r.json")
        assert (report["backend"], report["precision"], report["frames_written"]) == (backend, "fp32", 3)
        assert backend in report["versions"]

    def test_a_folder_of_images_gives_masks_of_their_names(self, stream: Callable[..., int], folder: Path) -> None:
        (folder / "images").mkdir()
        for name, size in (("b.png", (80, 60)), ("a.jpg", (64, 64)), ("c.bmp", (33, 47))):
            PIL.Image.new("RGB", size, (90, 100, 110)).save(folder / "images" / name)
        assert stream("--masks", "masks", source="images") == 0
        sizes = {}
        for path in (folder / "masks").iterdir():
            with PIL.Image.open(path) as mask:
                sizes[path.name] = mask.size
        assert sizes == {"a.png": (64, 64), "b.png": (80, 60), "c.png": (33, 47)}


def bad_options(folder: Path) -> dict[str, list[str]]:
    """Every way in which a user can be wrong; the fixture ``wrong`` lays out the files."""
    return {
        "a source that is not there": ["--source", "none.mp4"],
        "an empty source": ["--source", ""],
        "a folder without images": ["--source", str(folder / "empty")],
        "a glob without images": ["--source", "*.png"],
        "a text that calls itself a video": ["--source", str(folder / "text.mp4")],
        "a video of no bytes": ["--source", str(folder / "zero.mp4")],
        "an image that is none": ["--source", str(folder / "text.png")],
        "an unknown scheme": ["--source", "gopher://host/video"],
        "a server that refuses": ["--source", "http://127.0.0.1:9/video.mp4"],
        "a camera that is not there": ["--source", "camera:97"],
        "a demo of no length": ["--source", "demo:0"],
        "a demo of words": ["--source", "demo:long"],
        "a model that is not there": ["--model", "none"],
        "a model file that is text": ["--model", str(folder / "text.onnx")],
        "a model of another contract": ["--model", str(folder / "other.onnx")],
        "a model that is a folder": ["--model", str(folder / "empty")],
        "a model whose name is too long": ["--model", "x" * 5000],
        "an unknown backend": ["--backend", "caffe"],
        "an unknown precision": ["--precision", "fp64"],
        "a precision that the backend lacks": ["--precision", "int8"],
        "an unknown device": ["--device", "tpu"],
        "a device that the backend cannot use": ["--device", "cuda"],
        "a size of no multiple": ["--size", "100x100"],
        "a size of one number": ["--size", "64"],
        "a size of nothing": ["--size", "0x0"],
        "a start before the beginning": ["--start", "-1"],
        "a start that is no number": ["--start", "nan"],
        "a start behind the end": ["--start", "10"],
        "no duration": ["--duration", "0"],
        "no frames": ["--max-frames", "0"],
        "no stride": ["--stride", "0"],
        "an unknown way to drop": ["--drop", "some"],
        "an unknown view": ["--view", "upside"],
        "an alpha above one": ["--alpha", "1.5"],
        "an alpha that is no number": ["--alpha", "nan"],
        "an unknown class to hide": ["--hide", "Unicorn"],
        "an unknown class to draw": ["--only", "Unicorn"],
        "an output of another format": ["--output", "out.avi"],
        "an output without a suffix": ["--output", "out"],
        "an output in a folder that is not there": ["--output", "none/out.mp4"],
        "an output that is a folder": ["--output", str(folder / "folder.mp4")],
        "an output that cannot be written": ["--output", "/proc/out.mp4"],
        "an output whose name is too long": ["--output", "x" * 300 + ".mp4"],
        "masks into a file": ["--masks", str(folder / "text.mp4")],
        "masks where none can be written": ["--masks", "/proc/masks"],
        "statistics in a folder that is not there": ["--stats", "none/stats.jsonl"],
        "statistics that are a folder": ["--stats", str(folder / "empty")],
        "a report in a folder that is not there": ["--report", "none/run.json"],
        "a report that is a folder": ["--report", str(folder / "empty")],
        "a report that cannot be written": ["--report", "/proc/run.json"],
        "a report whose name is too long": ["--report", "x" * 300],
        "a window where no display answers": ["--show"],
        "the model as the report": ["--report", str(folder / "other.onnx"), "--model", str(folder / "other.onnx")],
        "statistics and report in one file": ["--stats", "same", "--report", "./same"],
        "an unknown option": ["--frames", "3"],
        "an option that wants a number": ["--max-frames", "three"],
        "an option without its value": ["--source"],
        "two sources that differ": ["clip.mp4"],
        "a frame rate for a source that has its own": ["--fps", "10"],
        "a frame rate of zero": ["--fps", "0"],
        "an unknown log level": ["--log-level", "loud"],
        "an unknown preset": ["--preset", "moon"],
    }


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """Things that are not what they should be."""
    place = tmp_path / "wrong"
    (place / "empty").mkdir(parents=True)
    (place / "folder.mp4").mkdir()
    (place / "zero.mp4").touch()
    for suffix in ("mp4", "png", "onnx"):
        (place / f"text.{suffix}").write_text("This is no such file.\n" * 50)
    model = blue_graph(frames=("frames", 1, ["N", 4, 6, 3]))
    write_spec(model, wide_spec((4, 6)))
    (place / "other.onnx").write_bytes(model.SerializeToString())
    return place


def one_line(said: str) -> str:
    """``said`` if it is one line for a user."""
    assert said.startswith("rtseg: ")
    assert said.endswith("\n")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


class TestBadOptions:
    @pytest.mark.parametrize("case", sorted(bad_options(Path())))
    def test_it_is_one_line_and_code_2_and_nothing_is_left_behind(
        self, icnet_file: Path, folder: Path, wrong: Path, capfd: pytest.CaptureFixture[str], case: str
    ) -> None:
        before = sorted(wrong.rglob("*"))
        options = bad_options(wrong)[case]
        given = ["--source", DEMO, "--model", str(icnet_file), "--output", "null", "--quiet"]
        if options == ["--show"]:
            given = given[:-3]
        if "--source" in options:  # another one would be a second source
            given = given[2:]
        assert main(["stream", *given, *options]) == 2
        said = capfd.readouterr()
        assert one_line(said.err)
        assert said.out == ""
        assert names(folder) == set()
        assert sorted(wrong.rglob("*")) == before

    def test_an_output_that_is_the_source_is_refused_and_the_source_is_kept(
        self, stream: Callable[..., int], folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert stream("--output", "clip.mp4", "--max-frames", "3", "--quiet") == 0
        (folder / "link.mp4").hardlink_to(folder / "clip.mp4")
        whole = (folder / "clip.mp4").read_bytes()
        for options in (["--output", "clip.mp4"], ["--output", "./link.mp4"], ["--stats", "clip.mp4"]):
            assert stream(*options, source="clip.mp4") == 2
            assert "is the source itself: give another name" in one_line(capfd.readouterr().err)
        assert stream("--report", "clip.mp4", "--output", "null", source="clip.mp4") == 2
        assert "--report clip.mp4 is the source itself" in one_line(capfd.readouterr().err)
        assert (folder / "clip.mp4").read_bytes() == whole
        assert names(folder) == {"clip.mp4", "link.mp4"}

    def test_a_source_with_a_name_too_long_for_a_file_does_not_confuse_the_check_of_the_output(
        self, stream: Callable[..., int], folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "out.mp4").write_bytes(b"old")
        url = f"http://127.0.0.1:9/{'x' * 400}.mp4"
        assert stream("--output", "out.mp4", "--quiet", source=url) == 2
        assert one_line(capfd.readouterr().err)
        assert (folder / "out.mp4").read_bytes() == b"old"

    @pytest.mark.parametrize("command", ["streem", "--sauce", "train", "eval", "export", "export a.pt"])
    def test_a_command_line_that_cannot_be_understood_points_to_the_help(
        self, capfd: pytest.CaptureFixture[str], command: str
    ) -> None:
        assert main(command.split()) == 2
        assert "--help`" in one_line(capfd.readouterr().err)


class TestErrorsOnTheWay:
    def test_what_came_before_an_error_is_kept_and_the_report_tells_of_it(
        self, stream: Callable[..., int], folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "masks").mkdir()
        (folder / "masks" / "000004.png").write_bytes(b"an image of my dog")
        assert stream("--masks", "masks", "--report", "run.json", "--quiet") == 2
        said = one_line(capfd.readouterr().err)
        assert "000004.png exists and is not a mask of rtseg" in said
        report = read_json(folder / "run.json")
        assert report["ended"] == f"error: {said.removeprefix('rtseg: ').rstrip()}"
        assert report["frames_written"] == 4
        assert (folder / "masks" / "000004.png").read_bytes() == b"an image of my dog"
        assert names(folder) == {"masks", "run.json"}

    @pytest.mark.parametrize("quiet", [True, False])
    def test_an_output_that_fails_ends_alone_with_one_warning(
        self, stream: Callable[..., int], folder: Path, capfd: pytest.CaptureFixture[str], *, quiet: bool
    ) -> None:
        (folder / "masks").mkdir()
        (folder / "masks" / "000004.png").write_bytes(b"an image of my dog")
        options = ["--output", "out.mp4", "--masks", "masks", "--stats", "s.jsonl", "--report", "run.json"]
        assert stream(*options, "--max-frames", "9", *(["--quiet"] if quiet else [])) == 2
        said = capfd.readouterr()
        lines = [line for line in (said.out + said.err).splitlines() if "is not a mask of rtseg" in line]
        assert len(lines) == 1
        assert lines[0].endswith("The other outputs go on")
        assert "wrote masks" not in said.out
        assert ("wrote video out.mp4" in said.out) is not quiet
        report = read_json(folder / "run.json")
        assert report["ended"] == "end of source"
        assert report["failures"] == [lines[0].removeprefix("rtseg: ")]
        assert len(frames_of(folder / "out.mp4")) == report["frames_written"] == 9
        assert len((folder / "s.jsonl").read_text().splitlines()) == 9
        assert len(list((folder / "masks").iterdir())) == 5

    def test_a_source_that_fails_at_once_leaves_a_report_and_no_video(
        self, stream: Callable[..., int], folder: Path, wrong: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert stream("--output", "out.mp4", "--report", "run.json", "--quiet", source=str(wrong / "text.mp4")) == 2
        assert one_line(capfd.readouterr().err)
        assert names(folder) == {"run.json"}
        report = read_json(folder / "run.json")
        assert report["ended"].startswith("error: ")
        assert (report["frames_read"], report["frames_written"], report["fps"]) == (0, 0, 0.0)

    def test_a_report_does_not_tell_passwords(
        self, stream: Callable[..., int], folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        url = "http://user:geheim@127.0.0.1:9/video.mp4?token=abcdef"
        assert stream("--output", "null", "--report", "run.json", source=url) == 2
        said = capfd.readouterr()
        for text in (said.err, said.out, (folder / "run.json").read_text()):
            assert "geheim" not in text
            assert "abcdef" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
class TestSignals:
    def begun(
        self, icnet_file: Path, folder: Path, *, stdout: int = subprocess.PIPE, **options: Any
    ) -> subprocess.Popen[str]:
        """An endless run in a process of its own that has written a few frames."""
        code = (
            "import fcntl, os, sys, termios; from rtseg.cli import main\n"
            "if os.isatty(1):\n    fcntl.ioctl(1, termios.TIOCSCTTY, 0)\n"
            "sys.exit(main(sys.argv[1:]))"
        )
        source = ["--source", f"demo:9999@{WIDTH}x{HEIGHT}", "--model", str(icnet_file)]
        results = ["--output", "out.mp4", "--stats", "stats.jsonl", "--report", "run.json"]
        process = subprocess.Popen(
            [sys.executable, "-c", code, "stream", *source, *results],
            cwd=folder,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            **options,
        )
        part = folder / "stats.part.jsonl"
        deadline = time.monotonic() + TIMEOUT_S
        while not (part.exists() and part.read_bytes().count(b"\n") >= 5):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no frame came"
            Event().wait(0.02)
        return process

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
    def test_a_signal_ends_the_run_with_a_file_that_plays_and_a_report(
        self, icnet_file: Path, folder: Path, number: signal.Signals, code: int
    ) -> None:
        process = self.begun(icnet_file, folder)
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, err) == (code, "")
        assert names(folder) == {"out.mp4", "stats.jsonl", "run.json"}
        report = read_json(folder / "run.json")
        assert report["ended"] == "stopped"
        assert report["frames_written"] >= 5
        assert f"stopped: {report['frames_written']} frames" in out
        frames = frames_of(folder / "out.mp4")
        assert len(frames) == report["frames_written"]
        assert [time_s for time_s, _ in frames] == pytest.approx([n / 25 for n in range(len(frames))], abs=1e-4)
        assert len((folder / "stats.jsonl").read_text().splitlines()) == len(frames)

    def test_the_end_of_the_terminal_ends_the_run_with_a_file_that_plays_and_a_report(
        self, icnet_file: Path, folder: Path
    ) -> None:
        terminal, end_of_process = pty.openpty()
        process = self.begun(icnet_file, folder, stdout=end_of_process, start_new_session=True)
        os.close(end_of_process)
        os.close(terminal)
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 129
        assert names(folder) == {"out.mp4", "stats.jsonl", "run.json"}
        report = read_json(folder / "run.json")
        assert report["ended"] == "stopped"
        assert len(frames_of(folder / "out.mp4")) == report["frames_written"]

    @pytest.mark.parametrize("option", ["output", "stats", "report"])
    def test_a_second_run_into_the_same_output_is_refused_before_its_first_frame(
        self, icnet_file: Path, folder: Path, option: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        process = self.begun(icnet_file, folder)
        output = {"output": "out.mp4", "stats": "stats.jsonl", "report": "run.json"}[option]
        part = Path(output).with_stem(f"{Path(output).stem}.part")
        try:
            assert main(["stream", DEMO, "--model", str(icnet_file), f"--{option}", output]) == 2
            message = f"rtseg: {part} is being written by another run: choose another --{option}\n"
            assert capsys.readouterr().err == message
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 143
        assert len(frames_of(folder / "out.mp4")) == read_json(folder / "run.json")["frames_written"]

    def test_a_default_name_that_another_run_uses_gets_a_number(self, icnet_file: Path, folder: Path) -> None:
        with locked_output(folder / "demo-rtseg.mp4", "video"):
            assert main(["stream", DEMO, "--model", str(icnet_file)]) == 0
        assert names(folder) == {"demo-rtseg-2.mp4"}

    def test_more_signals_do_not_keep_it_from_ending(self, icnet_file: Path, folder: Path) -> None:
        process = self.begun(icnet_file, folder)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            Event().wait(0.001)
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 130
