from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from rtseg.errors import OptionError, SinkError
from rtseg.frame import Frame
from rtseg.sinks import _encoders
from rtseg.sinks._encoders import VideoEncoder, choose_encoder
from rtseg.sinks.options import RecordingOptions
from rtseg.sinks.video import VideoSink

LABELS = np.zeros((48, 64), np.uint8)


def record(path: Path, codec: str, crf: int | None = None) -> int:
    """Write 40 images that move, and return the size of the file."""
    random = np.random.default_rng(0)
    big = np.kron(random.integers(0, 256, (40, 40, 3), dtype=np.uint8), np.ones((6, 6, 1), np.uint8))
    sink = VideoSink(path, codec=codec, crf=crf)
    for index in range(40):
        pixels = np.ascontiguousarray(big[index : index + 96, index : index + 128])
        sink.write(Frame(pixels, index, index / 25, 0.0), LABELS, pixels)
    sink.close()
    return path.stat().st_size


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_every_codec_keeps_times_colours_and_keyframes(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    size = record(path, codec)
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.name.endswith({"hevc": "hevc", "av1": "av1"}[codec]) or (
            container.streams.video[0].codec_context.codec.canonical_name == codec
        )
        frames = list(container.decode(video=0))
    assert [round(frame.time, 3) for frame in frames] == [round(index / 25, 3) for index in range(40)]
    assert [index for index, frame in enumerate(frames) if frame.key_frame] == [0, 25]
    assert (frames[0].colorspace, frames[0].color_range) == (6, 1)
    assert record(tmp_path / f"worse{suffix}", codec, 50) < size / 2


def test_apple_players_get_the_tag_that_they_accept(tmp_path: Path) -> None:
    record(tmp_path / "out.mp4", "hevc")
    assert b"hvc1" in (tmp_path / "out.mp4").read_bytes()


def test_a_file_that_cannot_hold_the_codec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"out\.mov cannot hold av1: end its name in \.mp4 or \.mkv"):
        VideoSink(tmp_path / "out.mov", codec="av1")


def test_software_encoders_pass_the_test_that_hardware_must_pass() -> None:
    for codec in ("h264", "hevc", "av1"):
        assert _encoders._test(VideoEncoder(codec, "software", 25)) == ""


def test_an_encoder_that_gives_other_images_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoEncoder, "name", "libx264")  # in the place of hardware that works
    monkeypatch.setattr(_encoders, "_HARDWARE", ("qsv",))
    monkeypatch.setattr(_encoders, "_test", _encoders._test.__wrapped__)
    chosen = choose_encoder(RecordingOptions(encoder="auto"), "video x")
    assert chosen.kind == "qsv"
    assert chosen.notice == "video x is encoded by libx264"
    original = _encoders.video_frame
    monkeypatch.setattr(_encoders, "video_frame", lambda image, pix_fmt: original(255 - image, pix_fmt))
    with pytest.raises(SinkError, match="by qsv: the images that came back look different: use --encoder software"):
        choose_encoder(RecordingOptions(encoder="qsv"), "video x")


def test_hardware_that_is_not_there_is_named_or_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_encoders, "_HARDWARE", ("none",))
    options = RecordingOptions()
    object.__setattr__(options, "encoder", "none")
    with pytest.raises(SinkError, match="cannot be encoded by none: this PyAV has no h264_none: use --encoder"):
        choose_encoder(options, "video x")
    chosen = choose_encoder(RecordingOptions(encoder="auto"), "video x")
    assert chosen.kind == "software"
    assert chosen.notice == "video x is encoded by libx264: no hardware encoder works here"


def test_a_slow_source_leaves_the_encoder_at_once(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mkv", fps_hint=5.0)
    for index in range(5):
        pixels = np.full((48, 64, 3), index, np.uint8)
        sink.write(Frame(pixels, index, index / 5, 0.0), LABELS, pixels)
    with av.open(tmp_path / "out.part.mkv") as container:  # while it is written
        assert sum(packet.size > 0 for packet in container.demux(video=0)) >= 3
    sink.close()
