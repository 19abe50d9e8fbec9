"""Several outputs of a whole run, and what is left when the disk or the process ends."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import av
import pytest
from helpers.audio_clips import write_audio_clip
from helpers.rtsp_process import RtspProcess, read_number, write_numbered_clip

from rtseg.cli import main

pytestmark = pytest.mark.usefixtures("no_thread_left")
FRAMES = 600


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def seconds_of_audio(path: Path) -> float:
    with av.open(path) as container:
        return sum(float(packet.duration * packet.time_base) for packet in container.demux(audio=0) if packet.size)


def test_two_files_hold_the_same_frames(icnet_file: Path, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a.mp4", "b.mkv")]
    command = ["stream", "demo:1@96x64", "--model", str(icnet_file), "--no-show", "--quiet", "--codec", "hevc"]
    assert main([*command, "-o", names[0], "-o", names[1]]) == 0
    assert [len(frames_of(Path(name))) for name in names] == [25, 25]
    assert main([*command, "-o", names[0], "-o", names[0], "--overwrite"]) == 2


def test_the_audio_of_a_file_is_divided_with_its_video(icnet_file: Path, tmp_path: Path) -> None:
    clip = write_audio_clip(tmp_path / "clip.mkv", "libopus", length_s=3, change_s=2)
    command = ["stream", str(clip), "--model", str(icnet_file), "--no-show", "--quiet", "--segment", "1s"]
    assert main([*command, "-o", str(tmp_path / "out.mp4")]) == 0
    files = sorted(tmp_path.glob("out-*.mp4"))
    assert [len(frames_of(path)) for path in files] == [25, 25, 25]
    assert sum(map(seconds_of_audio, files)) == pytest.approx(3.0, abs=0.1)
    assert [seconds_of_audio(path) for path in files] == pytest.approx([1.0, 1.0, 1.0], abs=0.06)


def test_a_killed_run_leaves_a_recording_of_every_frame_up_to_its_end(icnet_file: Path, tmp_path: Path) -> None:
    clip = write_numbered_clip(tmp_path / "clip.h264", FRAMES)
    folder = tmp_path / "out"
    folder.mkdir()
    with RtspProcess(clip) as server:
        command = [sys.executable, "-m", "rtseg", "stream", server.url, "--model", str(icnet_file), "--no-show"]
        options = ["--view", "image", "--drop", "never", "--segment", "1s", "-o", str(folder / "cam-%03d.mp4")]
        with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as run:
            deadline_s = time.monotonic() + 60
            while not _has_frames(folder / "cam-003.part.mp4") and time.monotonic() < deadline_s:
                time.sleep(0.05)  # a file of another process tells nobody that it grows
            run.kill()
    files = sorted(folder.glob("cam-*.mp4"))
    assert len(files) >= 3
    assert files[-1].name.endswith(".part.mp4")
    shown = [read_number(frame.to_ndarray(format="bgr24")) for path in files for frame in _playable(path)]
    assert all((after - before) % FRAMES == 1 for before, after in pairwise(shown))
    assert len(shown) >= 60


def _has_frames(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 50_000  # some tens of frames


def _playable(path: Path) -> list[av.VideoFrame]:
    """The frames of a file; a file that has just begun may be empty."""
    try:
        return frames_of(path)
    except av.error.InvalidDataError:
        assert path.stat().st_size < 1000
        return []


@pytest.mark.parametrize("segment", [(), ("--segment", "1s")])
def test_a_full_disk_ends_the_recording_and_nothing_else(
    icnet_file: Path, tmp_path: Path, segment: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        other = tmp_path / "other.mkv"
        command = ["stream", "demo:4@320x240", "--model", str(icnet_file), "--no-show", "--crf", "5", *segment]
        assert (
            main([*command, "-o", str(disk / "out.mp4"), "-o", str(other), "--stats", str(tmp_path / "stats.jsonl")])
            == 2
        )
        said = capsys.readouterr().out
        assert said.count("the disk is full") == 1
        assert len((tmp_path / "stats.jsonl").read_text().splitlines()) == 100
        assert all(frames_of(path) for path in disk.glob("*.mp4"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
