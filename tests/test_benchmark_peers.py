"""That every row of ``benchmarks/peers.py`` draws the same on every frame, and that its checks find what is lost."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import onnx
import pytest
from helpers.clips import write_clip
from onnx import TensorProto, helper, numpy_helper

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SIZE = (64, 96)
FRAMES = 12
NAMES = ("_peer_rows", "_peer_clips", "peers", "_common")


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """The modules of the benchmark, imported as ``python benchmarks/peers.py`` imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        modules: dict[str, ModuleType] = {name.strip("_"): importlib.import_module(name) for name in NAMES}
        yield SimpleNamespace(**modules)
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture
def job(tmp_path: Path, scripts: SimpleNamespace, icnet_file: Path) -> Any:
    """A green clip, a network whose class is the brightest of R, G and B, and green drawn for the second class."""
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight"], ["logits"])],
        "brightest",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3, *SIZE])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    green = np.zeros((48, 64, 3), np.uint8)
    green[..., 1] = 120
    clip = write_clip(tmp_path / "clip.mp4", range(FRAMES), images=[green] * FRAMES)
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    palette = np.array([[0, 0, 0], [0, 250, 0], [250, 0, 250]], np.uint8)
    return scripts.peer_rows.Job(
        str(clip), str(tmp_path / "out.mp4"), str(tmp_path / "m.onnx"), str(icnet_file), SIZE, palette, zeros, ones
    )


@pytest.mark.parametrize(
    ("row", "package"),
    [
        ("opencv-onnxruntime", "onnxruntime"),
        ("opencv-openvino", "openvino"),
        ("openvino-async", "openvino"),
        ("supervision", "supervision"),
        ("vidgear", "vidgear"),
    ],
)
def test_a_row_draws_the_colour_of_the_class_on_every_frame(
    row: str, package: str, job: Any, scripts: SimpleNamespace
) -> None:
    pytest.importorskip(package)
    scripts.peer_rows.ROWS[row](job)()
    with av.open(job.output) as container:
        images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(images) == FRAMES
    for image in images:
        blue, green, red = image.reshape(-1, 3).mean(0)
        assert green == pytest.approx(185, abs=12)  # half of 120, half of 250
        assert max(blue, red) < 30


@pytest.mark.parametrize(("row", "loses"), [("rtseg", False), ("opencv-onnxruntime", True)])
def test_what_a_row_loses_is_found_in_its_file(
    row: str, loses: bool, job: Any, scripts: SimpleNamespace, tmp_path: Path
) -> None:
    clip = scripts.peer_clips.write_test_clip(tmp_path / "varying.mp4", 40, (48, 64))
    varying = scripts.peer_rows.Job(**{**vars(job), "clip": str(clip)})
    scripts.peer_rows.ROWS[row](varying)()
    found = scripts.peer_clips.compare(
        scripts.peer_clips.contents(clip), scripts.peer_clips.contents(Path(varying.output))
    )
    assert found["frames_lost"] == 0
    assert (found["timestamp_error_ms"] > 200) == (found["timestamp_error_ms"] > 1) == loses
    assert (found["audio_lost_s"] > 1) == loses


def test_lost_frames_shifted_times_and_lost_audio_are_counted(scripts: SimpleNamespace) -> None:
    source = {"codec": "h264", "times_s": [0.0, 0.1, 0.4, 0.5], "audio": 2.0}
    written = {"codec": "mpeg4", "times_s": [1.0, 1.1, 1.2], "audio": None}
    found = scripts.peer_clips.compare(source, written)
    assert found.pop("timestamp_error_ms") == pytest.approx(200)
    assert found == {"codec": "mpeg4", "frames_lost": 1, "audio_lost_s": 2.0}


def test_a_row_that_fails_is_reported_and_the_others_have_medians(scripts: SimpleNamespace) -> None:
    figures = {"cpu_s": 1.0, "memory_mb": 10.0, "output_mb": 1.0, "versions": {}}
    rounds = [
        {"rows": {"rtseg": {"seconds": seconds, **figures}, "vidgear": {"failure": "no ffmpeg"}}}
        for seconds in (1.0, 2.0, 4.0)
    ]
    rows = scripts.peers.summarize(rounds, 100)
    assert rows["vidgear"] == {"failure": "no ffmpeg"}
    assert rows["rtseg"]["fps"]["median"] == 50
    assert "failed: no ffmpeg" in scripts.peers.speed_table(rows)


def test_rounds_are_added_only_to_those_of_the_same_commit(tmp_path: Path, scripts: SimpleNamespace) -> None:
    facts = {"commit": "abc", "clip": {"size": (1, 2)}}
    results = tmp_path / "peers.json"
    results.write_text(json.dumps({**facts, "rounds": [1]}))
    assert scripts.peers.earlier_results(results, facts)["rounds"] == [1]
    assert scripts.peers.earlier_results(results, {**facts, "commit": "def"}) == {}


def test_the_published_page_has_the_published_figures(scripts: SimpleNamespace) -> None:
    facts = json.loads(scripts.peers.PUBLISHED.read_text())
    assert scripts.peers.tables(facts) in scripts.peers.PAGE.read_text()
