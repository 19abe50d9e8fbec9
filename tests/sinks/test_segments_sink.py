from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.errors import OptionError, SinkError
from rtseg.frame import Frame
from rtseg.sinks._segment_names import SegmentNames
from rtseg.sinks.options import RecordingOptions
from rtseg.sinks.segments import SegmentsSink
from rtseg.system.atomic_files import OutputExists

LABELS = np.zeros((48, 64), np.uint8)
NOON = datetime(2026, 11, 28, 12, 0, 5).astimezone()


def noise(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def record(sink: SegmentsSink, times: list[float], size: tuple[int, int] = (48, 64), first: int = 0) -> None:
    for index, pts_s in enumerate(times, first):
        pixels = noise(index, size)
        sink.write(Frame(pixels, index, pts_s, 0.0), LABELS, pixels)


def times_of(path: Path) -> list[Fraction]:
    with av.open(path) as container:
        frames = list(container.decode(video=0))
        assert frames[0].key_frame
        return [frame.pts * frame.time_base for frame in frames]


def length_of(path: Path) -> Fraction:
    with av.open(path) as container:
        return Fraction(container.duration, 1_000_000)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_files_join_without_a_gap_or_a_frame_twice(tmp_path: Path, codec: str) -> None:
    random = np.random.default_rng(3)
    times = np.cumsum(np.r_[5.0, random.integers(200, 4000, 59) / 50_000]).tolist()
    sink = SegmentsSink(tmp_path / "out.mp4", RecordingOptions(codec, segment_s=1.0))
    record(sink, times)
    sink.close()
    files = sorted(tmp_path.glob("out-*.mp4"))
    assert [path.name for path in files] == [f"out-{number:05d}.mp4" for number in range(1, len(files) + 1)]
    assert len(files) >= 2
    begin, joined = Fraction(0), []
    for path in files:
        joined += [begin + time for time in times_of(path)]
        begin += length_of(path)
    assert len(joined) == len(times)
    assert np.abs(np.array(joined, float) - (np.array(times) - 5.0)).max() < 1e-4


def test_the_index_lists_every_file_with_its_time_and_length(tmp_path: Path) -> None:
    sink = SegmentsSink(tmp_path / "out.mp4", RecordingOptions(segment_s=1.0))
    record(sink, [index / 10 for index in range(25)])
    sink.close()
    lines = [json.loads(line) for line in (tmp_path / "out.segments.jsonl").read_text().splitlines()]
    ended = [line for line in lines if line["bytes"]]
    assert [(line["pts_s"], line["seconds"], line["frames"]) for line in ended] == [(0, 1, 10), (1, 1, 10), (2, 0.5, 5)]
    assert all((tmp_path / line["file"]).stat().st_size == line["bytes"] for line in ended)
    assert sink.facts() == {"files": 3, "deleted_files": 0}


def test_only_the_oldest_files_of_this_recording_are_deleted(tmp_path: Path) -> None:
    strangers = [tmp_path / "out-00000.mp4", tmp_path / "cam.mp4", tmp_path / "out.mp4"]
    for path in strangers:
        path.write_bytes(bytes(100_000))
        os.utime(path, (0, 0))
    options = RecordingOptions(segment_s=1.0, keep_bytes=60_000)
    for first in (0, 40):  # the second run goes on where the first one ended
        sink = SegmentsSink(tmp_path / "out.mp4", options)
        record(sink, [index / 10 for index in range(40)], first=first)
        sink.close()
    own = sorted(set(tmp_path.glob("out-*.mp4")) - set(strangers))
    assert own[-1].name == "out-00008.mp4"
    assert len(own) < 8
    assert sum(path.stat().st_size for path in own) <= 60_000
    assert [path.name for path in own] == [f"out-{number:05d}.mp4" for number in range(9 - len(own), 9)]
    assert all(path.stat().st_size == 100_000 for path in strangers)


def test_a_file_that_was_changed_or_renamed_is_not_deleted(tmp_path: Path) -> None:
    sink = SegmentsSink(tmp_path / "out.mp4", RecordingOptions(segment_s=1.0, keep_bytes=60_000))
    record(sink, [index / 10 for index in range(11)])
    (tmp_path / "out-00001.mp4").write_bytes(bytes(50_000))
    record(sink, [1.1 + index / 10 for index in range(60)], first=11)
    sink.close()
    assert (tmp_path / "out-00001.mp4").stat().st_size == 50_000
    assert "out-00001.mp4 was changed by another program and is not deleted" in sink.notice
    assert not (tmp_path / "out-00002.mp4").exists()


def test_an_index_that_names_files_elsewhere_deletes_nothing(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim.mp4", tmp_path / "folder"
    victim.write_bytes(b"x" * 10)
    folder.mkdir()
    facts = victim.stat()
    line = {"file": "../victim.mp4", "begins": "", "pts_s": 0, "bytes": 10, "mtime_ns": facts.st_mtime_ns}
    (folder / "out.segments.jsonl").write_text(f"{json.dumps(line)}\nnonsense\n[1]\n")
    sink = SegmentsSink(folder / "out.mp4", RecordingOptions(segment_s=1.0, keep_bytes=1))
    record(sink, [index / 10 for index in range(25)])
    sink.close()
    assert victim.exists()


def test_the_file_of_a_run_that_crashed_is_counted_and_deleted_in_its_turn(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_segments_sink import RecordingOptions, SegmentsSink, record
record(SegmentsSink(Path(sys.argv[1]) / "out.mp4", RecordingOptions(segment_s=1.0)), [i / 25 for i in range(45)])
os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    assert len(times_of(tmp_path / "out-00001.mp4")) == 25
    assert len(times_of(tmp_path / "out-00002.part.mp4")) >= 5
    sink = SegmentsSink(tmp_path / "out.mp4", RecordingOptions(segment_s=1.0, keep_bytes=1))
    record(sink, [index / 10 for index in range(40)])
    sink.close()
    left = {path.name for path in tmp_path.glob("*.mp4")}
    assert left == {"out-00006.mp4"}, "the newest file stays"


def test_a_live_source_of_another_size_goes_into_a_new_file(tmp_path: Path) -> None:
    sink = SegmentsSink(tmp_path / "out.mp4", RecordingOptions(), live=True)
    record(sink, [0.0, 0.1, 0.2])
    record(sink, [0.3, 0.4], (96, 128), 3)
    assert "the images are now 128x96, which goes into a new file, out-2.mp4" in sink.notice
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-2.mp4", "out.mp4"]
    assert [len(times_of(tmp_path / name)) for name in ("out.mp4", "out-2.mp4")] == [3, 2]
    assert length_of(tmp_path / "out.mp4") == Fraction(3, 10)


def test_a_live_source_of_another_rate_goes_into_a_new_file(tmp_path: Path) -> None:
    sink = SegmentsSink(tmp_path / "out.mp4", RecordingOptions(), live=True)
    times = np.cumsum([0.04] * 130 + [0.2] * 130).tolist()
    record(sink, times, (16, 16))
    sink.close()
    assert "the frame rate is now 5 fps" in sink.notice
    counts = [len(times_of(tmp_path / name)) for name in ("out.mp4", "out-2.mp4")]
    assert sum(counts) == 260
    assert 130 < counts[0] <= 260 - 10


def test_a_gap_at_the_end_of_a_file_is_not_part_of_it(tmp_path: Path) -> None:
    sink = SegmentsSink(tmp_path / "out.mp4", RecordingOptions(segment_s=1.0))
    record(sink, [0.0, 0.1, 0.2, 600.0, 600.1])
    sink.close()
    assert length_of(tmp_path / "out-00001.mp4") == Fraction(3, 10)


def test_two_runs_do_not_share_a_recording(tmp_path: Path) -> None:
    sink = SegmentsSink(tmp_path / "out.mp4", RecordingOptions(segment_s=1.0))
    with pytest.raises(SinkError, match="is being written by another run: choose another --output"):
        SegmentsSink(tmp_path / "out.mp4", RecordingOptions(segment_s=1.0))
    sink.close()


def test_what_cannot_be_written_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    divided = RecordingOptions(segment_s=1.0)
    with pytest.raises(SinkError, match="there is no folder"):
        SegmentsSink(tmp_path / "no" / "out.mp4", divided)
    with pytest.raises(OptionError, match=r"cannot write a video as 'out\.avi'"):
        SegmentsSink(tmp_path / "out.avi", divided)
    with pytest.raises(OptionError, match="%D is a date with slashes"):
        SegmentsSink(tmp_path / "%D.mp4", divided)
    (tmp_path / "out.mp4").write_text("old")
    with pytest.raises(OutputExists):
        SegmentsSink(tmp_path / "out.mp4", RecordingOptions(), live=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("name", "by_time", "expected"),
    [
        ("cam.mp4", True, ["cam-20261128-120005.mp4", "cam-20261128-120005-2.mp4"]),
        ("cam.mp4", False, ["cam-00001.mp4", "cam-00002.mp4"]),
        ("cam-%03d.mkv", True, ["cam-008.mkv", "cam-009.mkv"]),
        ("%Y-%m-%d_%H.%M.mp4", False, ["2026-11-28_12.00.mp4", "2026-11-28_12.00-2.mp4"]),
        ("100%%-%02d.mp4", False, ["100%-01.mp4", "100%-02.mp4"]),
    ],
)
def test_names_hold_the_time_or_the_number(tmp_path: Path, name: str, by_time: bool, expected: list[str]) -> None:
    (tmp_path / "cam-007.part.mkv").touch()
    names = SegmentNames(tmp_path / name, by_time=by_time)
    for wanted in expected:
        path = names.next(NOON)
        path.touch()
        assert path.name == wanted


def test_options_that_contradict_each_other_are_refused() -> None:
    for wrong in ({"keep_bytes": 5}, {"segment_s": 0.1}, {"crf": 60}, {"codec": "vp8"}, {"encoder": "magic"}):
        with pytest.raises(OptionError, match="--"):
            RecordingOptions(**wrong)  # type: ignore[arg-type]
    assert RecordingOptions("av1", crf=60).quality == 60
