from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.clips import write_clip

from rtseg.batch.divide import Division, divide_video, is_unchanged
from rtseg.batch.manifest import VideoEntry, read_manifest, write_manifest
from rtseg.batch.plan import _Journal


def test_segments_begin_at_key_frames_and_cover_every_frame_once(clip: Path) -> None:
    video = divide_video(str(clip), Division(1.5))
    assert [(s.start_s, s.end_s, s.first_frame, s.frames) for s in video.segments] == [
        (0.0, 2.0, 0, 20),
        (2.0, 4.0, 20, 20),
        (4.0, None, 40, 20),
    ]
    assert not video.error
    assert not video.note


def test_decoding_begins_before_the_segment_at_a_multiple(clip: Path) -> None:
    segments = divide_video(str(clip), Division(2.0, align=7, lead=3)).segments
    assert [(s.lead_frames, round(s.lead_start_s, 6)) for s in segments] == [(0, 0.0), (6, 1.4), (5, 3.5)]


@pytest.mark.parametrize("name", ["a.avi", "a.h264"])
def test_a_video_without_presentation_times_is_one_segment_and_says_so(name: str, tmp_path: Path) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    video = divide_video(str(write_clip(tmp_path / name, codec=codec, options={"g": "2"})), Division(1.0))
    assert len(video.segments) == 1
    assert "not divided" in video.note


@pytest.mark.parametrize(("content", "reason"), [(b"", "empty"), (b"no video", "not a readable video")])
def test_a_damaged_file_is_kept_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    video = divide_video(str(path), Division(1.0))
    assert not video.segments
    assert reason in video.error


def test_only_the_content_decides_whether_a_video_has_changed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    video = divide_video(str(path), Division(1.0))
    os.utime(path, (0, 0))  # a clock that is wrong
    assert is_unchanged(video)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert not is_unchanged(video)


def test_a_manifest_is_read_as_it_was_written(clip: Path, tmp_path: Path) -> None:
    videos = [divide_video(str(clip), Division(2.0)), VideoEntry("gone.mp4", 0, "", "", error="cannot be read")]
    write_manifest(tmp_path / "m.parquet", videos, {"a": "b"})
    assert read_manifest(tmp_path / "m.parquet") == (videos, {"a": "b"})


@pytest.mark.parametrize("content", [b"", b"PAR1 but no table"])
def test_a_damaged_manifest_counts_as_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    path.write_bytes(content)
    assert read_manifest(path) == ([], {})


def test_a_list_of_videos_that_was_cut_off_goes_on_with_whole_lines(tmp_path: Path) -> None:
    videos = [VideoEntry(f"{number}.mp4", 1, "", "", error="cannot be read") for number in range(3)]
    journal = _Journal(tmp_path / "j", Division(1.0))
    assert journal.read() == []
    for video in videos[:2]:
        journal.add(video)
    (tmp_path / "j").write_bytes((tmp_path / "j").read_bytes()[:-5])
    assert journal.read() == videos[:1]
    for video in videos[1:]:
        journal.add(video)
    assert journal.read() == videos
    (tmp_path / "j").write_bytes(b"\xff")
    assert journal.read() == []
    assert not (tmp_path / "j").exists()
