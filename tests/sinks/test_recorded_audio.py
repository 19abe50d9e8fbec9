"""The audio of a file source in the recording: bit for bit the same packets, in step with the video."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.packet import Packet
from helpers.audio_clips import tone_changes, write_audio_clip

from rtseg.sinks.video import VideoSink
from rtseg.sources import open_source
from rtseg.sources.options import SourceOptions
from rtseg.sources.video.audio import AudioReader

LABELS = np.zeros((48, 64), np.uint8)
IMAGE = np.zeros((48, 64, 3), np.uint8)
CHANGE_S = 3.5
TOLERANCE_S = 0.025
CODECS = {"aac.mp4": "aac", "aac.ts": "aac", "opus.mkv": "libopus", "pcm.mov": "pcm_s16le", "flac.mkv": "flac"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A clip of six seconds, by its name in ``CODECS``."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write_audio_clip(path, CODECS[name], change_s=CHANGE_S)

    return make


def record(source_path: Path, output: Path, options: SourceOptions | None = None) -> VideoSink:
    source = open_source(source_path, options)
    sink = VideoSink(output, audio=source.open_audio(), overwrite=True)
    for frame in source:
        sink.write(frame, LABELS, IMAGE)
    sink.close()
    return sink


def audio_packets(path: Path) -> list[tuple[float, bytes]]:
    """Time in seconds after the start of the video, and content, of each packet."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        origin_s = float((video.start_time or 0) * video.time_base)
        return [
            (float(packet.pts * packet.time_base) - origin_s, bytes(packet))
            for packet in container.demux(audio=0)
            if packet.size
        ]


def video_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("aac.mp4", ".mp4"),
        ("aac.mp4", ".mov"),
        ("aac.mp4", ".mkv"),
        ("opus.mkv", ".mp4"),
        ("opus.mkv", ".mkv"),
        ("pcm.mov", ".mov"),
        ("pcm.mov", ".mkv"),
        ("flac.mkv", ".mp4"),
    ],
)
def test_every_packet_is_copied_bit_for_bit_at_its_time(
    name: str, suffix: str, clip: Callable[[str], Path], tmp_path: Path
) -> None:
    sink = record(clip(name), tmp_path / f"out{suffix}")
    before, after = audio_packets(clip(name)), audio_packets(tmp_path / f"out{suffix}")
    if suffix == ".mkv":  # it cannot hold what lies before the first frame without delaying the video
        before = [packet for packet in before if packet[0] >= 0]
    assert [content for _, content in after] == [content for _, content in before]
    assert [time_s for time_s, _ in after] == pytest.approx([time_s for time_s, _ in before], abs=2e-3)
    assert video_times(tmp_path / f"out{suffix}") == pytest.approx([index / 25 for index in range(150)], abs=1e-3)
    assert sink.notice == ""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", CODECS)
def test_start_and_duration_cut_the_audio_in_step_with_the_video(
    name: str, suffix: str, clip: Callable[[str], Path], tmp_path: Path
) -> None:
    record(clip(name), tmp_path / f"out{suffix}", SourceOptions(start_s=2.0, duration_s=3.0))
    times = [time_s for time_s, _ in audio_packets(tmp_path / f"out{suffix}")]
    longest_s = max(later - earlier for earlier, later in pairwise(times))
    assert abs(times[0]) <= longest_s
    assert 3.0 - 2 * longest_s <= times[-1] < 3.0
    assert tone_changes(tmp_path / f"out{suffix}") == pytest.approx([CHANGE_S - 2.0], abs=TOLERANCE_S)
    assert video_times(tmp_path / f"out{suffix}") == pytest.approx([index / 25 for index in range(75)], abs=1e-3)


def test_a_start_between_two_frames_counts_from_the_first_frame_shown(
    clip: Callable[[str], Path], tmp_path: Path
) -> None:
    record(clip("aac.mp4"), tmp_path / "out.mp4", SourceOptions(start_s=2.21))
    assert tone_changes(tmp_path / "out.mp4") == pytest.approx([CHANGE_S - 2.24], abs=TOLERANCE_S)


def test_stride_leaves_the_audio_whole_to_the_end_of_the_last_frame(
    clip: Callable[[str], Path], tmp_path: Path
) -> None:
    record(clip("aac.mp4"), tmp_path / "out.mp4", SourceOptions(stride=10, max_frames=11))
    packets = audio_packets(tmp_path / "out.mp4")
    assert [content for _, content in packets] == [
        content for time_s, content in audio_packets(clip("aac.mp4")) if time_s < 4.4
    ]
    assert tone_changes(tmp_path / "out.mp4") == pytest.approx([CHANGE_S], abs=TOLERANCE_S)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", ["aac.mp4", "pcm.mov"])
def test_loop_repeats_the_audio_in_step(name: str, suffix: str, clip: Callable[[str], Path], tmp_path: Path) -> None:
    options = SourceOptions(start_s=3.2, duration_s=0.52, loop=True, max_frames=13 * 30)
    record(clip(name), tmp_path / f"out{suffix}", options)
    expected = [CHANGE_S - 3.2 + 0.52 * number for number in range(30)]
    assert tone_changes(tmp_path / f"out{suffix}") == pytest.approx(expected, abs=TOLERANCE_S)


def test_audio_that_ends_early_just_ends(tmp_path: Path) -> None:
    clip = write_audio_clip(tmp_path / "clip.mp4", "aac", length_s=4, audio_s=1)
    sink = record(clip, tmp_path / "out.mp4")
    assert audio_packets(tmp_path / "out.mp4") == audio_packets(clip)
    assert len(video_times(tmp_path / "out.mp4")) == 100
    assert sink.notice == ""
    record(clip, tmp_path / "out.mp4", SourceOptions(start_s=2))
    assert len(video_times(tmp_path / "out.mp4")) == 50


def test_a_codec_that_the_format_cannot_hold_is_left_out_with_advice(
    clip: Callable[[str], Path], tmp_path: Path
) -> None:
    sink = VideoSink(tmp_path / "out.mov", audio=open_source(clip("opus.mkv")).open_audio())
    assert sink.notice == f"video {tmp_path / 'out.mov'} has no audio: .mov cannot hold opus; write .mkv to keep it"
    sink.close()
    assert not list(tmp_path.iterdir())
    record(clip("opus.mkv"), tmp_path / "out.mov")
    assert len(video_times(tmp_path / "out.mov")) == 150
    with av.open(str(tmp_path / "out.mov")) as container:
        assert not container.streams.audio


class RefusedAudio(AudioReader):
    """Its packets claim to be what no MP4 file may hold: AAC with a header in each packet."""

    def read(self, until_s: float) -> Iterator[tuple[float, Packet[av.AudioStream]]]:
        for time_s, packet in super().read(until_s):
            refused = Packet(b"\xff\xf1" + bytes(packet))
            refused.duration, refused.time_base = packet.duration, packet.time_base
            yield time_s, refused  # type: ignore[misc]


def test_a_packet_that_the_muxer_refuses_ends_the_audio_alone(clip: Callable[[str], Path], tmp_path: Path) -> None:
    source = open_source(clip("aac.mp4"))
    audio = RefusedAudio(clip("aac.mp4"), SourceOptions(), source.pass_starts_s)
    sink = VideoSink(tmp_path / "out.mp4", audio=audio)
    for frame in source:
        sink.write(frame, LABELS, IMAGE)
    sink.close()
    assert "the audio ends early" in sink.notice
    assert len(video_times(tmp_path / "out.mp4")) == 150


def test_damaged_places_are_skipped_and_counted(clip: Callable[[str], Path], tmp_path: Path) -> None:
    content = bytearray(clip("aac.ts").read_bytes())
    for place in range(len(content) // 3, len(content) // 2, 997):
        content[place : place + 40] = bytes(40)
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(content)
    source = open_source(clip("aac.ts"))
    source.pass_starts_s.append(0.0)
    sink = VideoSink(tmp_path / "out.mp4", audio=AudioReader(damaged, SourceOptions(), source.pass_starts_s))
    for frame in source:
        sink.write(frame, LABELS, IMAGE)
    sink.close()
    assert len(video_times(tmp_path / "out.mp4")) == 150
    assert len(audio_packets(tmp_path / "out.mp4")) > 150
    assert "damaged packets of the audio were skipped" in sink.notice


def test_sources_without_audio_have_none_to_open(tmp_path: Path, clip: Callable[[str], Path]) -> None:
    with av.open(str(tmp_path / "silent.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(IMAGE, "bgr24")))
        container.mux(stream.encode(None))
    assert open_source(tmp_path / "silent.mp4").open_audio() is None
    assert open_source("demo:1").open_audio() is None
    assert open_source("http://127.0.0.1:9/clip.mp4").open_audio() is None
    assert open_source(clip("aac.mp4").as_uri()).open_audio() is not None


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from rtseg.sinks.video import VideoSink
from rtseg.sources import open_source
source = open_source(sys.argv[1])
sink = VideoSink(Path(sys.argv[2]), audio=source.open_audio())
random = np.random.default_rng(0)
for frame in source:
    image = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    sink.write(frame, image[..., 0], image)
    if frame.pts_s > 5:
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_after_a_crash_the_part_file_holds_video_and_audio_in_step(
    suffix: str, clip: Callable[[str], Path], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(clip("aac.mp4")), str(tmp_path / f"out{suffix}")]
    assert subprocess.run(command, timeout=60, check=False).returncode == -9
    part = tmp_path / f"out.part{suffix}"
    assert [path.name for path in tmp_path.iterdir()] == [part.name]
    times = video_times(part)
    assert times == pytest.approx([index / 25 for index in range(len(times))], abs=1e-3)
    assert times[-1] > 4
    assert abs(audio_packets(part)[-1][0] - times[-1]) < 0.3
    assert tone_changes(part) == pytest.approx([CHANGE_S], abs=TOLERANCE_S)
