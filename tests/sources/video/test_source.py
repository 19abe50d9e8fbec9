from __future__ import annotations

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers.clips import noise, write_clip
from numpy.typing import NDArray

from rtseg.errors import OptionError, SourceError, SourceNotFound
from rtseg.frame import Frame
from rtseg.sinks.video import VideoSink
from rtseg.sources import open_source
from rtseg.sources.options import SourceOptions

MakeClip = Callable[..., Path]

GOOD = {
    "decord/unordered.mov": (4, (50, 50)),
    "decord/video_0.mov": (3, (320, 568)),
    "decord/video_180.mov": (3, (320, 568)),
    "decord/video_270.mov": (3, (568, 320)),
    "decord/video_90.mov": (3, (568, 320)),
    "derived/60fps_480x270.mp4": (60, (270, 480)),
    "derived/gray_ffv1_240x136.mkv": (10, (136, 240)),
    "derived/hevc_480x270.mp4": (50, (270, 480)),
    "derived/mpeg4_480x270.avi": (50, (270, 480)),
    "derived/odd_427x241_yuv444.mp4": (25, (241, 427)),
    "derived/one_frame.mp4": (1, (270, 480)),
    "derived/rot90_480x270.mp4": (50, (480, 270)),
    "derived/vfr_480x270.mp4": (58, (270, 480)),
    "moviepy/-video-with-dash-.mp4": (5, (1, 1)),
    "moviepy/no_duration.webm": (74, (720, 1280)),
    "moviepy/transparent.webm": (150, (200, 200)),
    "torchcodec/av1_video.mkv": (125, (360, 640)),
    "torchcodec/bt709_full_range.mp4": (30, (720, 1280)),
    "torchcodec/h264_10bits.mp4": (30, (200, 200)),
    "torchcodec/h265_video.mp4": (10, (128, 128)),
}
BAD = {
    "derived/audio_only.m4a": "no video that can be decoded, only audio",
    "derived/text_not_video.mp4": "is not a readable video",
    "derived/truncated_no_moov.mp4": r"index \(moov\) is missing",
    "derived/zero_bytes.mp4": "is empty",
}
DAMAGED = {"decord/corrupted.mp4": (48, 2), "derived/truncated_faststart_55pct.mp4": (18, 1)}


def read(where: str | Path, **options: object) -> list[Frame]:
    return list(open_source(where, SourceOptions(**options)))  # type: ignore[arg-type]


def levels(frames: list[Frame]) -> list[int]:
    return [int(frame.image.mean()) for frame in frames]


class TestOddFiles:
    @pytest.mark.parametrize("name", GOOD)
    def test_an_intact_file_gives_all_frames_upright_and_in_order(self, name: str, shared: Path) -> None:
        source = open_source(shared / "data/videos_odd" / name)
        frames = list(source)
        count, size = GOOD[name]
        assert len(frames) == count
        assert {frame.image.shape for frame in frames} == {(*size, 3)}
        assert [frame.index for frame in frames] == list(range(count))
        times = [frame.pts_s for frame in frames]
        assert times[0] == 0.0
        assert times == sorted(set(times))
        assert source.damaged == 0
        assert not source.live

    @pytest.mark.parametrize("name", BAD)
    def test_an_unusable_file_is_an_error_of_one_line_that_names_it(self, name: str, shared: Path) -> None:
        with pytest.raises(SourceError, match=BAD[name]) as caught:
            read(shared / "data/videos_odd" / name)
        assert Path(name).name in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", DAMAGED)
    def test_damaged_frames_are_skipped_and_counted(self, name: str, shared: Path) -> None:
        source = open_source(shared / "data/videos_odd" / name)
        count, damaged = DAMAGED[name]
        assert len(list(source)) == count
        assert source.damaged == damaged

    def test_a_driving_clip_keeps_its_frames_times_and_name(self, shared: Path) -> None:
        source = open_source(shared / "data/videos_driving/solidWhiteRight.mp4")
        times = [frame.pts_s for frame in source]
        assert times == pytest.approx([index / 25 for index in range(221)])
        assert (source.name, source.fps, source.frame_count) == ("solidWhiteRight", 25.0, 221)

    @pytest.mark.parametrize("name", ["derived/hevc_480x270.mp4", "derived/vfr_480x270.mp4"])
    def test_reading_from_a_start_time_gives_the_same_frames(self, name: str, shared: Path) -> None:
        path = shared / "data/videos_odd" / name
        whole = [frame for frame in read(path) if frame.pts_s >= 1.3]
        part = read(path, start_s=1.3)
        assert [f.pts_s for f in part] == [f.pts_s for f in whole]
        assert all(np.array_equal(a.image, b.image) for a, b in zip(part, whole, strict=True))


class TestTimes:
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv"])
    def test_a_variable_frame_rate_is_kept(self, name: str, make_clip: MakeClip) -> None:
        frames = read(make_clip(name, [0, 1, 2, 10, 11, 30], options={"bf": "2"}))
        assert [frame.pts_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 1.0, 1.1, 3.0], abs=2e-3)

    @pytest.mark.parametrize("name", ["a.avi", "a.h264"])
    def test_a_container_without_presentation_times_uses_its_frame_rate(self, name: str, make_clip: MakeClip) -> None:
        frames = read(make_clip(name, range(12), rate=25, options={"bf": "3"}))
        assert [frame.pts_s for frame in frames] == pytest.approx([index / 25 for index in range(12)])

    @pytest.mark.parametrize(
        ("name", "codec", "options", "rate", "assumed"),
        [
            ("a.mjpeg", "mjpeg", {}, 25, True),
            ("a.mjpeg", "mjpeg", {"fps": 5}, 5, False),
            ("a.h264", "libx264", {}, 10, False),  # says its rate
            ("a.h264", "libx264", {"fps": 4}, 4, False),
        ],
    )
    def test_a_raw_file_follows_fps_then_its_own_rate_then_an_assumption(
        self, name: str, codec: str, options: dict[str, float], rate: float, assumed: bool, make_clip: MakeClip
    ) -> None:
        path = make_clip(name, range(8), codec=codec, options={"strict": "unofficial"} if codec == "mjpeg" else None)
        source = open_source(path, SourceOptions(**options))  # type: ignore[arg-type]
        assert [frame.pts_s for frame in source] == pytest.approx([index / rate for index in range(8)])
        assert source.fps == rate
        assert ("25 frames per second are assumed" in source.notice) == assumed

    @pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.ts"])
    def test_a_file_with_timestamps_refuses_fps(self, name: str, make_clip: MakeClip) -> None:
        with pytest.raises(OptionError, match="frame rate of its own"):
            open_source(make_clip(name), SourceOptions(fps=10))

    def test_a_damaged_frame_of_a_raw_file_leaves_a_gap(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mjpeg", range(5), codec="mjpeg", options={"strict": "unofficial"})
        images = path.read_bytes().split(b"\xff\xd8")[1:]
        images[2] = images[2].replace(b"\xff\xc0", b"\xff\xfe")  # the size becomes a comment
        path.write_bytes(b"".join(b"\xff\xd8" + image for image in images))
        source = open_source(path, SourceOptions(fps=10))
        assert [frame.pts_s for frame in source] == pytest.approx([0.0, 0.1, 0.3, 0.4])
        assert source.damaged == 1

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv", "a.avi"])
    @pytest.mark.parametrize("start_s", [1.5, 6.1, 11.9])
    def test_a_start_between_keyframes_gives_the_same_frames(
        self, name: str, start_s: float, make_clip: MakeClip
    ) -> None:
        options = {"g": "40", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}
        path = make_clip(name, range(120), images=noise(120), options=options)
        whole = [frame for frame in read(path) if frame.pts_s >= start_s - 1e-6]
        part = read(path, start_s=start_s)
        assert [f.pts_s for f in part] == pytest.approx([f.pts_s for f in whole])
        assert all(np.array_equal(a.image, b.image) for a, b in zip(part, whole, strict=True))
        assert part[0].index == 0

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
    def test_a_start_at_a_keyframe_decodes_nothing_before_it(
        self, name: str, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make_clip(name, range(60), rate=10, options={"g": "10", "bf": "2", "sc_threshold": "0"})
        decoded: list[float] = []
        seek = "rtseg.sources.video.seek._seek_demuxer"
        original = import_module("rtseg.sources.video.seek")._seek_demuxer
        monkeypatch.setattr(seek, lambda *arguments: decoded.append(arguments[2]) or original(*arguments))
        assert read(path, start_s=3.0)[0].pts_s == pytest.approx(3.0)
        assert decoded == pytest.approx([3.0, 3.0])  # once to look, once to begin

    def test_a_start_after_the_end_is_an_error(self, make_clip: MakeClip) -> None:
        with pytest.raises(SourceError, match="ends before --start 9"):
            read(make_clip("a.mp4"), start_s=9)

    def test_a_part_can_be_read_with_a_stride(self, make_clip: MakeClip) -> None:
        frames = read(make_clip("a.mp4", range(20)), start_s=0.5, duration_s=1.0, stride=3)
        assert [frame.pts_s for frame in frames] == pytest.approx([0.5, 0.8, 1.1, 1.4])
        assert [frame.index for frame in frames] == [0, 3, 6, 9]

    def test_index_and_time_keep_rising_in_a_loop(self, make_clip: MakeClip) -> None:
        frames = read(make_clip("a.mp4", range(4)), loop=True, start_s=0.2, max_frames=5)
        assert [frame.pts_s for frame in frames] == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6])
        assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
        assert levels(frames)[0] == levels(frames)[2]


class TestDamage:
    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
    def test_the_good_part_of_a_truncated_file_is_read_and_the_rest_counted(
        self, name: str, make_clip: MakeClip
    ) -> None:
        fast = {"movflags": "faststart"} if name == "a.mp4" else {}
        path = make_clip(name, range(40), images=noise(40), options={"g": "10"}, container_options=fast)
        whole = read(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
        source = open_source(path)
        frames = list(source)
        assert 12 <= len(frames) <= 30
        assert source.damaged >= 1 or name == "a.ts"  # a TS file does not say how long it should be
        sound = zip(frames[:-1], whole, strict=False)
        assert all(np.array_equal(a.image, b.image) for a, b in sound)

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
    @pytest.mark.parametrize("damaged", [27, 28, 29])
    def test_damage_near_the_end_costs_no_good_frame(self, name: str, damaged: int, make_clip: MakeClip) -> None:
        path = make_clip(name, range(30), images=noise(30), options={"g": "1", "bf": "0"})
        with av.open(str(path)) as container:
            packet = [bytes(packet) for packet in container.demux(video=0) if packet.size][damaged]
        path.write_bytes(path.read_bytes().replace(packet, packet[:4] + bytes(len(packet) - 4)))
        source = open_source(path)
        assert len(list(source)) == 29
        assert source.damaged == 1

    def test_a_file_without_a_good_frame_is_an_error(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4", range(3), container_options={"movflags": "faststart"})
        data = bytearray(path.read_bytes())
        start = data.index(b"mdat") + 4
        data[start:] = bytes(len(data) - start)
        path.write_bytes(data)
        with pytest.raises(SourceError, match="no frame can be decoded"):
            read(path)

    def test_frames_keep_their_own_size_when_it_changes(self, tmp_path: Path) -> None:
        small = write_clip(tmp_path / "small.h264", range(4))
        large = write_clip(tmp_path / "large.h264", range(4), size=(96, 64))
        both = tmp_path / "both.h264"
        both.write_bytes(small.read_bytes() + large.read_bytes())
        shapes = [frame.image.shape for frame in read(both)]
        assert shapes == [(48, 64, 3)] * 4 + [(64, 96, 3)] * 4


class TestRotation:
    @pytest.mark.parametrize(
        ("rotate", "turn"),
        [
            ((90, False, False), lambda p: np.rot90(p)),
            ((180, False, False), lambda p: np.rot90(p, 2)),
            ((270, False, False), lambda p: np.rot90(p, 3)),
            ((0, True, False), lambda p: p[:, ::-1]),
            ((0, False, True), lambda p: p[::-1]),
        ],
    )
    def test_images_are_rotated_and_mirrored_as_the_container_specifies(
        self,
        rotate: tuple[float, bool, bool],
        turn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
        tmp_path: Path,
    ) -> None:
        image = np.zeros((48, 64, 3), np.uint8)
        image[:24, :32] = 200
        image[:24, 32:] = 100
        path = write_clip(tmp_path / "a.mp4", range(2), images=[image] * 2, rotate=rotate)
        frame = read(path)[0]
        assert frame.image.flags["C_CONTIGUOUS"]
        assert np.abs(frame.image.astype(int) - turn(image)).mean() < 6


def _jpeg_with_orientation(orientation: int) -> bytes:
    encoded = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + encoded[2:]


class TestContainerFacts:
    @pytest.mark.parametrize(
        ("orientation", "shape"), [(1, (48, 64, 3)), (3, (48, 64, 3)), (6, (64, 48, 3)), (8, (64, 48, 3))]
    )
    def test_side_data_that_pyav_does_not_know_is_no_error(
        self, orientation: int, shape: tuple[int, ...], tmp_path: Path
    ) -> None:
        path = tmp_path / "a.mjpeg"
        path.write_bytes(_jpeg_with_orientation(orientation) * 3)
        assert [frame.image.shape for frame in read(path)] == [shape] * 3

    @pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.h264", "a.ts"])
    def test_the_shape_of_pixels_is_known(self, name: str, make_clip: MakeClip) -> None:
        path = make_clip(name, range(3), options={"aspect": "16/11"})
        assert {frame.pixel_aspect for frame in read(path)} == {Fraction(16, 11)}

    def test_the_shape_of_pixels_turns_with_the_image(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4", range(3), options={"aspect": "16/11"}, rotate=(90, False, False))
        assert {frame.pixel_aspect for frame in read(path)} == {Fraction(11, 16)}

    @pytest.mark.parametrize("aspect", ["0/1", "1/1", "1/1000"])
    def test_pixels_are_square_if_no_sensible_shape_is_known(self, aspect: str, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4", range(3), options={"aspect": aspect})
        assert {frame.pixel_aspect for frame in read(path)} == {Fraction(1)}

    def test_a_recording_keeps_pixel_aspect_rotation_and_the_last_duration(self, tmp_path: Path) -> None:
        image = np.zeros((48, 64, 3), np.uint8)
        image[:24] = 200
        copy = tmp_path / "copy.mp4"
        original = VideoSink(tmp_path / "original.mp4")
        for index, (pts_s, duration_s) in enumerate([(0.0, 0.1), (0.1, 0.1), (0.2, 3.0)]):
            original.write(Frame(image, index, pts_s, 0.0, None, Fraction(4, 3), duration_s), image[..., 0], image)
        original.close()
        sink = VideoSink(copy)
        for frame in open_source(tmp_path / "original.mp4"):
            sink.write(frame, frame.image[..., 0], frame.image)
        sink.close()
        with av.open(copy) as container:
            assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
            assert container.duration == 3_200_000

    def test_an_unknown_codec_is_named_as_such(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mkv")
        path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/AVC"))
        with pytest.raises(SourceError, match="a codec that this PyAV cannot decode"):
            read(path)

    def test_encrypted_video_is_named_as_such(self, make_clip: MakeClip) -> None:
        key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16, "encryption_kid": "a7" * 16}
        with pytest.raises(SourceError, match="is encrypted"):
            read(make_clip("a.mp4", container_options=key))


class TestFileKinds:
    @pytest.mark.parametrize(("name", "codec"), [("a.roq", "roqvideo"), ("a.rm", "rv20")])
    def test_rare_formats_that_name_no_other_file_are_read(self, name: str, codec: str, make_clip: MakeClip) -> None:
        pix_fmt = "yuvj444p" if codec == "roqvideo" else "yuv420p"
        assert len(read(make_clip(name, range(4), rate=30, codec=codec, pix_fmt=pix_fmt))) == 4

    def test_an_image_without_its_suffix_is_named_as_such(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_bytes(_jpeg_with_orientation(1))
        with pytest.raises(SourceError, match=r"a\.mp4 is an image \(JPEG\), not a video"):
            read(tmp_path / "a.mp4")

    def test_the_name_of_a_format_that_is_not_allowed_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n")
        with pytest.raises(SourceError, match="has the format webvtt, which is not allowed"):
            read(tmp_path / "a.mp4")

    @pytest.mark.parametrize("name", ["-dash.mp4", "take:2.mp4", "50%d.mp4", "späť a.mp4", "concat:x.mp4"])
    def test_a_file_name_may_look_like_anything(self, name: str, make_clip: MakeClip) -> None:
        assert len(read(make_clip(name))) == 10

    def test_a_title_in_another_encoding_is_accepted(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4")
        data = path.read_bytes()
        assert data.count(b"VideoHandler") == 1  # the stream's handler name, which is metadata
        path.write_bytes(data.replace(b"VideoHandler", b"caf\xe9Handler\xff"))
        assert len(read(path)) == 10

    def test_a_file_name_that_is_not_utf8_is_accepted(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4")
        odd = path.rename(os.fsdecode(os.fsencode(path.parent) + b"/b\xff.mp4"))
        assert len(read(odd)) == 10

    def test_a_playlist_does_not_read_other_files_unless_it_is_allowed(
        self, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        clip = make_clip("a.ts")
        playlist = tmp_path / "list.m3u8"
        head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
        playlist.write_text(f"{head}{clip.name}\n#EXT-X-ENDLIST\n")
        with pytest.raises(SourceError, match="is a playlist"):
            read(playlist)
        assert len(read(playlist, allow_playlists=True)) == 10

    @pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile a.mp4\n", "file a.mp4\n"])
    def test_a_concat_list_named_like_a_video_is_refused(self, text: str, make_clip: MakeClip, tmp_path: Path) -> None:
        make_clip("a.mp4")
        (tmp_path / "b.mp4").write_text(text)
        with pytest.raises(SourceError):
            read(tmp_path / "b.mp4")

    def test_a_pipe_is_refused_and_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.mp4")
        with pytest.raises(SourceError, match="not a regular file"):
            read(tmp_path / "pipe.mp4")

    def test_a_device_is_refused_and_the_camera_syntax_suggested(self) -> None:
        with pytest.raises(SourceError, match="camera:/dev/null"):
            read("/dev/null")

    def test_a_file_deleted_before_reading_is_not_found(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4")
        source = open_source(path)
        path.unlink()
        with pytest.raises(SourceNotFound, match=r"no file .*a\.mp4"):
            list(source)

    def test_a_song_with_a_cover_image_is_not_a_video(self, tmp_path: Path) -> None:
        path = tmp_path / "song.mp4"
        with av.open(str(path), "w") as container:
            sound = container.add_stream("aac", rate=8000)
            sound.codec_context.layout = "mono"
            cover = container.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            container.mux(cover.encode(av.VideoFrame(64, 48, "yuvj420p")))
            container.mux(cover.encode())
            silence = av.AudioFrame("fltp", "mono", 1024)
            silence.planes[0].update(bytes(4096))
            silence.rate = 8000
            container.mux(sound.encode(silence))
            container.mux(sound.encode())
        with pytest.raises(SourceError, match="no video"):
            read(path)


class TestEnding:
    def test_stop_ends_the_reading_after_the_current_frame(self, make_clip: MakeClip) -> None:
        source = open_source(make_clip("a.mp4"), SourceOptions(loop=True))
        seen = 0
        for _ in source:
            seen += 1
            source.stop()
        assert seen == 1

    def test_closing_the_iterator_closes_the_file(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4")
        frames = iter(open_source(path))
        frame = next(frames)
        assert path in _open_files()
        frames.close()  # type: ignore[attr-defined]
        assert path not in _open_files()
        assert frame.image.mean() > 0  # the image outlives its container


def _open_files() -> list[Path]:
    links = list(Path("/proc/self/fd").iterdir())
    return [link.readlink() for link in links if link.is_symlink()]
