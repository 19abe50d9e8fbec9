"""Every script in ``examples/`` runs on a small input, as its docstring says."""

from __future__ import annotations

import csv
import io
import runpy
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.system.opencv import cv2

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIP = "demo:1.2@320x192"
FRAMES = 30


def run_example(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def frames_of(video: Path) -> list[np.ndarray]:
    with av.open(video) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def test_every_example_says_how_to_run_it_and_is_tested_here() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    for name in names:
        text = (EXAMPLES / f"{name}.py").read_text()
        assert f"python examples/{name}.py" in text.split('"""')[1]
        assert f'run_example("{name}"' in Path(__file__).read_text()
    assert len(names) == 6


@pytest.mark.parametrize("name", ["own_sink", "blur_class", "count_class", "record_event"])
def test_a_missing_source_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as caught:
        run_example(name, monkeypatch, tmp_path / "none.mp4", tmp_path / "out.mp4")
    assert str(caught.value).startswith("error: there is no file or folder")


def test_own_sink_saves_one_image_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("own_sink", monkeypatch, CLIP, tmp_path / "snapshots")
    assert [path.name for path in sorted((tmp_path / "snapshots").iterdir())] == ["000000.jpg", "000025.jpg"]


def test_own_source_reads_every_frame_of_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.TextIOWrapper(io.BytesIO(np.random.default_rng(0).bytes(5 * 96 * 160 * 3)))
    monkeypatch.setattr(sys, "stdin", pipe)
    run_example("own_source", monkeypatch, "96x160", tmp_path / "overlay.mp4")
    assert [frame.shape for frame in frames_of(tmp_path / "overlay.mp4")] == [(96, 160, 3)] * 5


def test_count_class_writes_a_line_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("count_class", monkeypatch, CLIP, tmp_path / "road.csv", "--class", "Road")
    with (tmp_path / "road.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["second"] for row in rows] == ["0", "1"]
    assert all(0 < float(row["mean_percent"]) <= float(row["max_percent"]) < 100 for row in rows)


def test_blur_class_changes_only_pixels_near_the_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("blur_class", monkeypatch, "demo:0.2@320x192", tmp_path / "blurred.mp4", "--class", "Building")
    run_example("blur_class", monkeypatch, "demo:0.2@320x192", tmp_path / "plain.mp4", "--class", "Bicyclist")
    blurred, plain = (frames_of(tmp_path / name)[0].astype(int) for name in ("blurred.mp4", "plain.mp4"))
    changed = np.abs(blurred - plain).max(axis=2) > 30
    assert 0.01 < changed.mean() < 0.6


@pytest.mark.parametrize(("percent", "videos"), [(1, 1), (99, 0)])
def test_record_event_records_only_while_the_class_is_large_enough(
    percent: int, videos: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_example("record_event", monkeypatch, CLIP, tmp_path / "events", "--class", "Road", "--percent", percent)
    recordings = list((tmp_path / "events").iterdir())
    assert len(recordings) == videos
    assert [len(frames_of(video)) for video in recordings] == [FRAMES] * videos


def test_train_folder_makes_a_model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(10):
        image = random.integers(0, 90, (64, 96, 3), dtype=np.uint8)
        mask = np.zeros((64, 96), np.uint8)
        for canvas, value in ((image, (240, 240, 240)), (mask, 255)):
            cv2.circle(canvas, (48, 32), 14, value, -1)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), image)
        cv2.imwrite(str(tmp_path / "masks" / f"{number}.png"), mask)
    model = tmp_path / "mine.onnx"
    folders = (tmp_path / "images", tmp_path / "masks", "background:0+crack:255", model)
    options = ("--run", tmp_path / "run", "--model", "icnet:width=4", "--epochs", 1, "--size", 64, 96)
    run_example("train_folder", monkeypatch, *folders, *options)
    assert model.stat().st_size > 0
