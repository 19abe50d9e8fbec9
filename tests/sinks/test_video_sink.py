from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.errors import OptionError, SinkError
from rtseg.frame import Frame
from rtseg.sinks.video import VideoSink
from rtseg.system import part_file
from rtseg.system.atomic_files import OutputExists

LABELS = np.zeros((48, 64), np.uint8)


def make_image(grey: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), grey, np.uint8)


def record(path: Path, times: list[float], size: tuple[int, int] = (48, 64)) -> None:
    sink = VideoSink(path)
    for index, pts_s in enumerate(times):
        pixels = make_image(index % 200, size)
        sink.write(Frame(pixels, index, pts_s, 0.0), LABELS, pixels)
    sink.close()
    assert sink.written == len(times)


def read(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("rate", [(25, 1), (30000, 1001)])
def test_a_steady_rate_keeps_every_time_exactly(tmp_path: Path, suffix: str, rate: tuple[int, int]) -> None:
    times = [index * rate[1] / rate[0] for index in range(60)]
    record(tmp_path / f"out{suffix}", times)
    ticks = [frame.pts * frame.time_base * rate[0] / rate[1] for frame in read(tmp_path / f"out{suffix}")]
    assert ticks == list(range(60))


@pytest.mark.parametrize(("suffix", "exact_s"), [(".mp4", 1e-5), (".mov", 1e-5), (".mkv", 5.1e-4)])
def test_uneven_times_are_kept_and_count_from_the_first_frame(tmp_path: Path, suffix: str, exact_s: float) -> None:
    times = [100.0, 100.04, 100.05, 100.3, 103.0, 103.001, 110.7]
    record(tmp_path / f"out{suffix}", times)
    found = [frame.time for frame in read(tmp_path / f"out{suffix}")]
    assert np.abs(np.array(found) - (np.array(times) - 100.0)).max() <= 2 * exact_s


def test_times_that_do_not_rise_are_written_one_tick_apart(tmp_path: Path) -> None:
    record(tmp_path / "out.mp4", [0.0, 1.0, 1.0, 1.0, 0.5, 2.0])
    assert [frame.pts for frame in read(tmp_path / "out.mp4")] == [0, 90000, 90001, 90002, 90003, 180000]


def test_keyframes_are_at_most_about_a_second_apart(tmp_path: Path) -> None:
    record(tmp_path / "out.mp4", [index * 0.3 for index in range(30)])
    keys = [frame.time for frame in read(tmp_path / "out.mp4") if frame.key_frame]
    assert max(np.diff(keys)) <= 1.3


def test_flat_colours_come_back_and_are_tagged(tmp_path: Path) -> None:
    colours = [
        (0, 0, 255),
        (0, 255, 0),
        (255, 0, 0),
        (128, 64, 128),
        (60, 40, 222),
        (20, 20, 20),
        (250, 250, 250),
    ]
    pixels = np.repeat(np.array([colours], np.uint8), 64, axis=1).repeat(96, axis=0)
    sink = VideoSink(tmp_path / "out.mp4")
    sink.write(Frame(pixels, 0, 0.0, 0.0), LABELS, pixels)
    sink.close()
    (frame,) = read(tmp_path / "out.mp4")
    assert (frame.colorspace, frame.color_range) == (6, 1), "BT.601, limited range"
    found = frame.to_ndarray(format="bgr24")[48, 32::64].astype(int)
    assert np.abs(found - colours).max() <= 6


@pytest.mark.parametrize(
    ("size", "even"), [((47, 64), (48, 64)), ((48, 63), (48, 64)), ((33, 45), (34, 46)), ((54, 62), (54, 62))]
)
def test_odd_sizes_are_padded_with_their_own_border(
    tmp_path: Path, size: tuple[int, int], even: tuple[int, int]
) -> None:
    pixels = np.full((*size, 3), (40, 40, 200), np.uint8)
    pixels[:, -8:] = (200, 40, 40)
    sink = VideoSink(tmp_path / "out.mp4", crf=1)
    sink.write(Frame(pixels, 0, 0.0, 0.0), LABELS, pixels)
    sink.close()
    (frame,) = read(tmp_path / "out.mp4")
    assert (frame.height, frame.width) == even
    found = frame.to_ndarray(format="bgr24").astype(int)
    assert np.abs(found[:, : size[1] - 10] - (40, 40, 200)).max() <= 6
    assert np.abs(found[:, size[1] - 6 :] - (200, 40, 40)).max() <= 6


def test_a_frame_of_another_size_is_scaled_to_that_of_the_first_and_counted(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    for index, size in enumerate([(48, 64), (96, 128), (48, 64)]):
        sink.write(Frame(make_image(90, size), index, index / 25, 0.0), LABELS, make_image(90, size))
    sink.close()
    assert sink.rescaled == 1
    assert {(frame.height, frame.width) for frame in read(tmp_path / "out.mp4")} == {(48, 64)}


def test_the_closed_file_is_an_ordinary_mp4_that_knows_its_length(tmp_path: Path) -> None:
    record(tmp_path / "out.mp4", [index / 25 for index in range(75)])
    boxes, offset, data = [], 0, (tmp_path / "out.mp4").read_bytes()
    while offset < len(data):
        boxes.append(data[offset + 4 : offset + 8])
        size = int.from_bytes(data[offset : offset + 4], "big")
        offset += int.from_bytes(data[offset + 8 : offset + 16], "big") if size == 1 else size
    assert b"moof" not in boxes
    assert boxes.count(b"moov") == 1
    with av.open(tmp_path / "out.mp4") as container:
        assert container.duration == 3_000_000
        assert container.streams.video[0].frames == 75


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_last_frame_lasts_as_long_as_the_one_before_it(tmp_path: Path, suffix: str) -> None:
    record(tmp_path / f"out{suffix}", [0.0, 0.1, 0.2, 0.3, 0.4])
    with av.open(tmp_path / f"out{suffix}") as container:
        assert container.duration == 500_000
        assert container.streams.video[0].average_rate == 10


@pytest.mark.parametrize(("suffix", "exact"), [(".mp4", 0), (".mov", 0), (".mkv", 2000)])
def test_the_last_frame_keeps_a_duration_of_its_own(tmp_path: Path, suffix: str, exact: int) -> None:
    sink = VideoSink(tmp_path / f"out{suffix}")
    for index, duration_s in enumerate([0.1, 0.1, 2.5]):
        sink.write(Frame(make_image(), index, index / 10, 0.0, duration_s=duration_s), LABELS, make_image())
    sink.close()
    with av.open(tmp_path / f"out{suffix}") as container:
        assert abs(container.duration - 2_700_000) <= exact
    assert [round(frame.time, 2) for frame in read(tmp_path / f"out{suffix}")] == [0.0, 0.1, 0.2]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(8, 9), Fraction(1)])
def test_pixels_that_are_not_square_keep_their_shape(tmp_path: Path, suffix: str, aspect: Fraction) -> None:
    sink = VideoSink(tmp_path / f"out{suffix}")
    sink.write(Frame(make_image(), 0, 0.0, 0.0, pixel_aspect=aspect), LABELS, make_image())
    sink.close()
    with av.open(tmp_path / f"out{suffix}") as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == aspect
        assert stream.codec_context.sample_aspect_ratio == aspect
        assert (stream.width, stream.height) == (64, 48)


def test_the_final_name_appears_at_close_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("old")
    with pytest.raises(OutputExists, match="exists: give another name, or replace it with --overwrite"):
        VideoSink(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]
    sink = VideoSink(path, overwrite=True)
    sink.write(Frame(make_image(), 0, 0.0, 0.0), LABELS, make_image())
    assert path.read_text() == "old"
    assert (tmp_path / "out.part.mp4").exists()
    sink.close()
    sink.close()
    assert len(read(path)) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_a_file_that_another_program_creates_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    for index in range(30):
        sink.write(Frame(make_image(), index, index / 25, 0.0), LABELS, make_image())
    (tmp_path / "out.mp4").write_text("of another program")
    with pytest.raises(SinkError, match=r"has created out\.mp4; 30 frames are kept in .*/out\.part\.mp4"):
        sink.close()
    assert (tmp_path / "out.mp4").read_text() == "of another program"
    assert len(read(tmp_path / "out.part.mp4")) == 30


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_follows_its_folder(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_file, "SYNC_S", 0.0)
    (tmp_path / "a").mkdir()
    sink = VideoSink(tmp_path / "a" / f"out{suffix}")
    for index in range(60):
        sink.write(Frame(make_image(), index, index / 25, 0.0), LABELS, make_image())
        if index == 30:
            assert sink.notice == ""
            (tmp_path / "a").rename(tmp_path / "b")
    assert sink.notice.endswith(f"its folder was renamed, it is now written to {tmp_path}/b/out{suffix}")
    sink.close()
    assert len(read(tmp_path / "b" / f"out{suffix}")) == 60
    assert [path.name for path in tmp_path.rglob("*")] == ["b", f"out{suffix}"]


def test_a_part_that_is_renamed_or_deleted_ends_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_file, "SYNC_S", 0.0)

    def record_until_it_fails(change: Callable[[Path], object]) -> str:
        sink = VideoSink(tmp_path / "out.mp4")
        for index in range(60):
            sink.write(Frame(make_image(), index, index / 25, 0.0), LABELS, make_image())
        change(tmp_path / "out.part.mp4")
        with pytest.raises(SinkError) as caught:
            sink.write(Frame(make_image(), 60, 2.4, 0.0), LABELS, make_image())
        sink.close()
        return str(caught.value)

    said = record_until_it_fails(lambda part: part.rename(tmp_path / "mine.mp4"))
    assert "has renamed it to mine.mp4" in said
    kept = len(read(tmp_path / "mine.mp4"))
    assert f"{kept} frames are kept in {tmp_path}/mine.mp4" in said
    assert kept > 40
    (tmp_path / "mine.mp4").unlink()
    assert "has deleted out.part.mp4; no frame is kept" in record_until_it_fails(Path.unlink)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("size", "aspect", "inside"),
    [
        ((96, 128), 1, (0, 48, 0, 64)),  # the same shape
        ((96, 64), 1, (0, 48, 16, 48)),  # upright
        ((24, 64), 1, (12, 36, 0, 64)),  # wide
        ((48, 32), 2, (0, 48, 0, 64)),  # the same shape, with wide pixels
        ((48, 64), 2, (12, 36, 0, 64)),
    ],
)
def test_an_image_of_another_shape_is_not_stretched(
    tmp_path: Path, size: tuple[int, int], aspect: int, inside: tuple[int, int, int, int]
) -> None:
    sink = VideoSink(tmp_path / "out.mkv", crf=1)
    white = np.full((*size, 3), 255, np.uint8)
    sink.write(Frame(make_image(), 0, 0.0, 0.0), LABELS, make_image())
    assert sink.notice == ""
    for index in (1, 2):
        sink.write(Frame(white, index, index / 25, 0.0, pixel_aspect=Fraction(aspect)), LABELS, white)
    how = "scaled to it" if inside == (0, 48, 0, 64) else "fitted into it with black borders"
    assert f"images of another size than the first, 64x48, are {how}: now {size[1]}x{size[0]}" in sink.notice
    assert len(sink.notice.splitlines()) == 1
    sink.close()
    shown = read(tmp_path / "out.mkv")[1].to_ndarray(format="gray8")
    expected = np.zeros((48, 64), bool)
    expected[inside[0] : inside[1], inside[2] : inside[3]] = True
    assert ((shown > 128) == expected).mean() > 0.97


def test_a_run_without_frames_leaves_no_file(tmp_path: Path) -> None:
    VideoSink(tmp_path / "out.mp4").close()
    assert not list(tmp_path.iterdir())


def test_other_suffixes_are_refused_with_a_list_of_the_supported_ones(tmp_path: Path) -> None:
    for name in ("out.avi", "out.webm", "out"):
        with pytest.raises(OptionError, match=r"end its name in \.mp4, \.mov, \.mkv"):
            VideoSink(tmp_path / name)


def test_wrong_encoder_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="crf"):
        VideoSink(tmp_path / "out.mp4", crf=52)
    with pytest.raises(OptionError, match="unknown preset 'zap'"):
        VideoSink(tmp_path / "out.mp4", preset="zap")


def test_places_that_cannot_be_written_are_refused_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    cases = {
        tmp_path / "missing" / "out.mp4": "there is no folder",
        tmp_path / "file" / "out.mp4": "there is no folder",
        tmp_path / "folder.mp4": "is a folder",
        Path("/proc/out.mp4"): "cannot be written",
    }
    for path, text in cases.items():
        with pytest.raises(SinkError, match=text) as caught:
            VideoSink(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.mp4"]


def test_a_size_that_the_encoder_refuses_gives_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    pixels = make_image(0, (2, 20_000))
    with pytest.raises(SinkError, match=r"video .*out\.mp4 ended, .*; no frame is kept") as caught:
        sink.write(Frame(pixels, 0, 0.0, 0.0), LABELS, pixels)
    assert isinstance(caught.value.__cause__, av.error.FFmpegError)
    sink.close()
    assert not list(tmp_path.iterdir())


NOISE = """
import os, resource, sys
from pathlib import Path
import numpy as np
from rtseg.errors import SinkError
from rtseg.frame import Frame
from rtseg.sinks.video import VideoSink
pixels = np.zeros((120, 160, 3), np.uint8)
random = np.random.default_rng(0)
def noisy():
    return random.integers(0, 256, (120, 160, 3), dtype=np.uint8)
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
path = Path(sys.argv[1])
sink = VideoSink(path)
def write(count):
    for index in range(sink.written, sink.written + count):
        sink.write(Frame(pixels, index, index / 30, 0.0), pixels[..., 0], noisy())
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_killed_process_leaves_a_file_that_plays_to_its_last_second(tmp_path: Path, suffix: str) -> None:
    done = run(NOISE + "write(100); os.kill(os.getpid(), 9)", tmp_path / f"out{suffix}")
    assert done.returncode == -9
    assert [entry.name for entry in tmp_path.iterdir()] == [f"out.part{suffix}"]
    frames = read(tmp_path / f"out.part{suffix}")
    assert 70 <= len(frames) <= 100
    assert [round(frame.time * 30) for frame in frames] == list(range(len(frames)))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_ends_the_recording_and_keeps_what_plays(tmp_path: Path, suffix: str) -> None:
    script = """
limit(400_000)
try:
    write(1000)
except SinkError as error:
    print(error)
sink.close()
try:
    write(1)
except SinkError as error:
    print(error)
"""
    done = run(NOISE + script, tmp_path / f"out{suffix}")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    part = tmp_path / f"out.part{suffix}"
    assert first == second
    frames = read(part)
    assert len(frames) > 5
    assert "the disk is full" in first
    assert f"{len(frames)} frames are kept in {part}" in first
    assert [entry.name for entry in tmp_path.iterdir()] == [part.name]


def test_a_disk_that_fills_up_at_the_close_keeps_every_frame_under_the_part_name(tmp_path: Path) -> None:
    script = """
write(60)
limit(os.path.getsize(path.with_name("out.part.mp4")) + 100)
try:
    sink.close()
except SinkError as error:
    print(error)
sink.close()
"""
    done = run(NOISE + script, tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr
    frames = read(tmp_path / "out.part.mp4")
    assert len(frames) >= 45
    assert f"{len(frames)} frames are kept" in done.stdout
    assert not (tmp_path / "out.mp4").exists()


def test_a_disk_full_from_the_start_leaves_no_file(tmp_path: Path) -> None:
    script = """
limit(10)
try:
    write(100)
except SinkError as error:
    print(error)
sink.close()
"""
    done = run(NOISE + script, tmp_path / "out.mp4")
    assert "no frame is kept" in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_full_file_system_is_named_in_the_error(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        script = NOISE + "\ntry:\n    write(1000)\nexcept SinkError as error:\n    print(error)\nsink.close()"
        done = run(script, disk / "out.mp4")
        assert "the disk is full (No space left on device)" in done.stdout, done.stderr
        assert f"{len(read(disk / 'out.part.mp4'))} frames are kept" in done.stdout
        assert [entry.name for entry in disk.iterdir()] == ["out.part.mp4"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_removed_before_close_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    sink = VideoSink(folder / "out.mp4")
    sink.write(Frame(make_image(), 0, 0.0, 0.0), LABELS, make_image())
    (folder / "out.part.mp4").unlink()
    folder.rmdir()
    with pytest.raises(SinkError, match=r"has deleted out\.part\.mp4; no frame is kept"):
        sink.close()
    sink.close()


def test_a_write_without_the_rendered_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the rendered image"):
        VideoSink(tmp_path / "out.mp4").write(Frame(make_image(), 0, 0.0, 0.0), LABELS, None)
